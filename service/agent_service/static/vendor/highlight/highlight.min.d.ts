/* highlight.js, as far as the page uses it: tsconfig.json puts this in place of the vendored file. */

interface Emitter {
  root: DocumentFragment;
}

declare const hljs: {
  getLanguage(name: string): object | undefined;
  configure(options: { __emitter: new () => Emitter }): void;
  highlight(text: string, options: { language: string; ignoreIllegals: boolean }): { _emitter: Emitter };
};

export default hljs;
