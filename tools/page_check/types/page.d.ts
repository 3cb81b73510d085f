/* What the page's modules share, for tsc alone: the elements of its HTML, and what the service sends. */

/** Elements by their id. A module runs on the pages that have what it asks for; an id that stands here may be in one of them only. */
interface PageElements {
  attach: HTMLButtonElement;
  attached: HTMLElement;
  backdrop: HTMLElement;
  budgets: HTMLElement;
  composer: HTMLFormElement;
  develop: HTMLButtonElement;
  developer: HTMLElement;
  "developer-close": HTMLButtonElement;
  drawn: HTMLElement;
  /** Of a session without turns. */
  empty: HTMLElement | null;
  files: HTMLInputElement;
  find: HTMLInputElement;
  graph: HTMLSelectElement;
  icons: HTMLTemplateElement;
  latest: HTMLButtonElement;
  log: HTMLElement;
  logo: HTMLImageElement;
  menu: HTMLButtonElement;
  models: HTMLElement;
  name: HTMLElement;
  new: HTMLButtonElement;
  notices: HTMLElement;
  passage: HTMLElement;
  "passage-dialog": HTMLDialogElement;
  "passage-source": HTMLElement;
  "passage-title": HTMLElement;
  question: HTMLTextAreaElement;
  send: HTMLButtonElement;
  sessions: HTMLElement;
  sidebar: HTMLElement;
  "sign-out": HTMLButtonElement;
  states: HTMLElement;
  status: HTMLElement;
  stop: HTMLButtonElement;
  theme: HTMLButtonElement;
  times: HTMLElement;
  title: HTMLElement;
  users: HTMLElement;
}

/** What the service says of this installation, in the page's `meta` element. */
interface Facts {
  name: string;
  logo: boolean;
  welcome: string;
  signIn: boolean;
  keys: boolean;
  developer: "everyone" | "admins" | "off";
  /** What one question may have: how many, bytes of each, bytes of all. */
  files: { most: number; bytes: number; together: number };
  graphs: { name: string; description: string; examples: string[]; files: boolean }[];
}

/** What a run waits for. */
interface Interrupt {
  id: string;
  value: any;
}

/** What the event `usage` says, and GET /runs/{id}. USD; null without a price. */
interface RunUsage {
  outcome?: string;
  model_calls?: number;
  input_tokens?: number;
  cached_tokens?: number;
  output_tokens?: number;
  cost_usd?: number | null;
}

/** Of GET /runs/{id}/calls. */
interface ModelCall {
  attempt: number;
  call: number;
  node: string;
  model: string;
  input_tokens: number;
  cached_tokens: number;
  output_tokens: number;
  cost_usd: number | null;
  estimated: boolean;
}

/** The event `node`: it began, or it ended after so many seconds. */
interface NodeEvent {
  node: string;
  state: "start" | "end";
  path?: string[];
  seconds?: number;
}

/** Of `/assistants/{id}/graph`. */
interface GraphEdge {
  source: string;
  target: string;
  conditional?: boolean;
}

/** A message of GET /sessions/{id}/messages. */
interface Message {
  role: "user" | "assistant";
  content: string;
  run_id: string;
  outcome?: string;
  feedback?: 0 | 1 | null;
  sources?: Source[];
  decided?: any[];
  files?: { name: string; media_type: string; bytes: number }[];
}

/** A file of a question: `content` once it was chosen or fetched, else `run` and `number` say where it is kept. */
interface AskedFile {
  name: string;
  media_type: string;
  bytes: number;
  content?: Blob;
  run?: string;
  number?: number;
}

interface Source {
  title: string;
  section?: string;
  source: string;
}

/** A question on the page, with the run that it began, once that is known. */
interface Turn {
  root: HTMLElement;
  question: string;
  files: AskedFile[];
  run: string | null;
  began(run: string): void;
}

/** A turn that was read from a history, and the runs that answered it. */
interface PastTurn {
  turn: Turn;
  run: string;
  runs: Message[];
}

/** Swagger UI, a script that is loaded before ours. */
declare var SwaggerUIBundle: (options: object) => void;
