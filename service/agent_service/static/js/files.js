/* Files of a question: chosen, dropped or pasted, seen before they are sent, and seen again in the conversation. A picture is drawn
   on a canvas, so that the page's policy need let in no picture of other addresses. */

import { call } from "./api.js";
import { byId, el, icon, visible } from "./dom.js";
import { facts } from "./facts.js";
import { notify } from "./log.js";
import { Problem } from "./problem.js";

const TYPES = ["image/png", "image/jpeg", "image/gif", "image/webp", "application/pdf"]; // as the service takes
const MAX_SIDE = 2_048; // pixels of a picture that is sent: models look at no more
const QUALITIES = [0.85, 0.6, 0.4]; // of a picture that is made smaller: the first with which it is small enough
const SMALL = 64; // pixels of a preview
const LARGE = 1_600; // of a picture that is opened

const isPicture = (type) => type.startsWith("image/");
const sizeInWords = (bytes) => (bytes < 1_000_000 ? `${Math.max(1, Math.round(bytes / 1000))} kB` : `${(bytes / 1_000_000).toFixed(1)} MB`);
const refused = (detail) => new Problem({ code: "page", detail });

/** The files that go with the next question. @type {AskedFile[]} */
let chosen = [];

/** Whether a graph takes files. */
const takes = (name) => facts.graphs.find((each) => each.name === name)?.files ?? false;

/** Shows the button where this graph takes files. */
export function offerFiles(graph) {
  byId("attach").hidden = !takes(graph);
}

/** The chosen files, which are then no longer chosen. */
export function takeFiles() {
  const taken = chosen;
  choose([]);
  return taken;
}

/** Puts files back that could not be sent. */
export const keepFiles = (files) => choose(files);

/** Makes button, clipboard and drops choose files. `graph()` names the one that is asked. */
export function fileChooser(graph) {
  byId("files").accept = TYPES.join(",");
  byId("attach").onclick = () => byId("files").click();
  byId("files").onchange = () => { add(byId("files").files); byId("files").value = ""; byId("question").focus(); };
  byId("question").onpaste = ({ clipboardData }) => { if (takes(graph()) && clipboardData?.files.length) add(clipboardData.files); };
  const main = document.querySelector("main");
  main?.addEventListener("dragover", (event) => { if (takes(graph()) && event.dataTransfer?.types.includes("Files")) event.preventDefault(); });
  main?.addEventListener("drop", (event) => {
    if (!takes(graph()) || !event.dataTransfer?.files.length) return;
    event.preventDefault();
    add(event.dataTransfer.files);
  });
}

/** @param {FileList | null} list it is emptied as soon as this function waits */
async function add(list) {
  const files = [...list ?? []];
  byId("notices").replaceChildren();
  for (const file of files) {
    try {
      const read = await readFile(file);
      const together = [...chosen, read].reduce((sum, each) => sum + each.bytes, 0);
      if (chosen.length >= facts.files.most) throw refused(`A question takes at most ${facts.files.most} files.`);
      if (together > facts.files.together) throw refused(`All files of a question may have ${sizeInWords(facts.files.together)} together; with ${file.name} they have ${sizeInWords(together)}.`);
      choose([...chosen, read]);
    } catch (problem) {
      notify(problem);
    }
  }
}

async function readFile(file) {
  if (!TYPES.includes(file.type)) throw refused(`${file.name} is no PNG, JPEG, GIF or WebP picture, and no PDF.`);
  const content = isPicture(file.type) ? await smaller(file) : file;
  const most = Math.min(facts.files.bytes, facts.files.together);
  if (!content.size) throw refused(`${file.name} is empty.`);
  if (content.size > most) throw refused(`${file.name} has ${sizeInWords(content.size)}; a file may have ${sizeInWords(most)}.`);
  const name = file.name.replace(/[\p{C}/\\]/gu, "_").slice(-200).trim() || "file";
  return { name, media_type: content.type, bytes: content.size, content };
}

/** The picture, or a smaller one of it where it is larger than is taken or looked at. */
async function smaller(file) {
  const bitmap = await createImageBitmap(file).catch(() => { throw refused(`${file.name} is no picture that this browser can read.`); });
  const scale = Math.min(1, MAX_SIDE / Math.max(bitmap.width, bitmap.height));
  if (scale === 1 && file.size <= Math.min(facts.files.bytes, facts.files.together)) return file;
  const canvas = new OffscreenCanvas(Math.max(1, Math.round(bitmap.width * scale)), Math.max(1, Math.round(bitmap.height * scale)));
  const context = canvas.getContext("2d");
  if (context) {
    context.fillStyle = "#fff"; // JPEG knows no transparency: dark writing would be on black
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  }
  bitmap.close();
  const most = Math.min(facts.files.bytes, facts.files.together);
  let made = await canvas.convertToBlob({ type: "image/jpeg", quality: QUALITIES[0] });
  for (const quality of QUALITIES.slice(1)) if (made.size > most) made = await canvas.convertToBlob({ type: "image/jpeg", quality });
  return made;
}

/** @param {AskedFile[]} files */
function choose(files) {
  chosen = files;
  byId("attached").replaceChildren(...files.map((file) => el("li", {}, chip(file), remover(file))));
  byId("attached").hidden = !files.length;
}

function remover(file) {
  const remove = () => { choose(chosen.filter((each) => each !== file)); byId("attach").focus(); };
  return el("button", { class: "quiet", type: "button", "aria-label": `Remove ${visible(file.name)}`, title: "Remove", onclick: remove }, icon("error"));
}

/** What stands above a question: each of its files, which a press opens. @param {AskedFile[]} files */
export const filesOf = (files) => el("ul", { class: "files row", "aria-label": "Files", hidden: !files.length }, ...files.map((file) => el("li", {}, chip(file))));

/** @param {AskedFile} file */
function chip(file) {
  const seen = el("span", { class: "thumb" }, icon("file"));
  if (isPicture(file.media_type)) contentOf(file).then((blob) => draw(blob, SMALL)).then((canvas) => seen.replaceChildren(canvas), () => {});
  const button = el("button", { class: "chip", type: "button", title: `Open ${visible(file.name)}`, onclick: () => open(file).catch(notify) },
    seen, el("span", { class: "cut" }, file.name), el("span", { class: "muted" }, sizeInWords(file.bytes)));
  return button;
}

/** The bytes: as they were chosen, or as the service keeps them. @param {AskedFile} file @returns {Promise<Blob>} */
export async function contentOf(file) {
  file.content ??= await call("GET", `runs/${file.run}/files/${file.number}`, { as: "blob" });
  return /** @type {Blob} */ (file.content);
}

/** As a request carries them. @param {AskedFile[]} files */
export const sendable = (files) => Promise.all(files.map(async (file) => ({ name: file.name, data: await base64(await contentOf(file)) })));

function base64(blob) {
  return new Promise((/** @type {(text: string) => void} */ resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(String(reader.result).split(",")[1]);
    reader.onerror = () => reject(refused("A file could not be read."));
    reader.readAsDataURL(blob);
  });
}

/** A canvas with the picture, whose longer side has so many pixels at most. */
async function draw(blob, side) {
  const bitmap = await createImageBitmap(blob);
  const scale = Math.min(1, side / Math.max(bitmap.width, bitmap.height));
  const canvas = el("canvas", { width: Math.max(1, Math.round(bitmap.width * scale)), height: Math.max(1, Math.round(bitmap.height * scale)) });
  canvas.getContext("2d")?.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  return canvas;
}

/** A picture in the dialog of passages, anything else as a download. */
async function open(file) {
  const blob = await contentOf(file);
  if (!isPicture(file.media_type)) return download(file.name, blob);
  const canvas = await draw(blob, LARGE).catch(() => { throw refused(`${file.name} is no picture that this browser can read.`); });
  canvas.role = "img";
  canvas.ariaLabel = visible(file.name);
  byId("passage-title").textContent = visible(file.name);
  byId("passage-source").textContent = sizeInWords(file.bytes);
  byId("passage").replaceChildren(canvas);
  return byId("passage-dialog").showModal();
}

function download(name, blob) {
  const href = URL.createObjectURL(new Blob([blob], { type: "application/octet-stream" })); // kept, whatever it is: not shown
  el("a", { href, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(href), 60_000);
}
