/* markdown-it, as far as the page uses it: tsconfig.json puts this in place of the vendored file. */

export interface Token {
  type: string;
  tag: string;
  content: string;
  info: string;
  nesting: number;
  hidden: boolean;
  block: boolean;
  map: [number, number] | null;
  children: Token[] | null;
  attrGet(name: string): string | null;
}

interface StateInline {
  src: string;
  pos: number;
  posMax: number;
  push(type: string, tag: string, nesting: number): Token;
}

interface LinkifyIt {
  set(options: { fuzzyLink: boolean; fuzzyEmail: boolean; fuzzyIP: boolean }): LinkifyIt;
  add(schema: string, rule: null): LinkifyIt;
}

export default class MarkdownIt {
  constructor(options: { html: boolean; linkify: boolean; maxNesting: number });
  validateLink: (url: string) => boolean;
  linkify: LinkifyIt;
  inline: { ruler: { after(known: string, name: string, rule: (state: StateInline, silent: boolean) => boolean): void } };
  parse(text: string, env: object): Token[];
}
