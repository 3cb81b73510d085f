/* Swagger UI over this service's own OpenAPI document. Its address is relative, as a gateway may serve the service under a path. */

// What Markdown becomes: elements without a way to run anything, and links. All other HTML is shown as the text that it is.
const TAG = /^<\/?(?:p|br|hr|code|pre|em|strong|del|ul|ol|li|blockquote|h[1-6]|table|thead|tbody|tr|th|td|div|span|a)(?: (?:class|start|target|rel)="[^"<>]*"| href="(?:https?:|#)[^"<>]*")* ?\/?>$/;
const PIECES = /<[^<>]*>|[^<>]+|[<>]/g; // in time linear in the length

const escaped = (text) => text.replaceAll("<", "&lt;").replaceAll(">", "&gt;");

/** HTML that may reach the page: Swagger UI has cleaned it before, and this does not rely on that. */
export const harmless = (html) => (html.match(PIECES) ?? []).map((piece) => (TAG.test(piece) ? piece : escaped(piece))).join("");

globalThis.trustedTypes?.createPolicy("default", { createHTML: harmless });

globalThis.SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  filter: true,
  validatorUrl: null, // which would send the document's address to a server of Swagger's
  persistAuthorization: false,
});
