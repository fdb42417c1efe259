/** CodeMirror as the screens use it. Loaded when an editor is shown, never before. */
import { autocompletion, closeBrackets } from '@codemirror/autocomplete';
import { defaultKeymap, history, historyKeymap, indentWithTab } from '@codemirror/commands';
import { javascript } from '@codemirror/lang-javascript';
import { json } from '@codemirror/lang-json';
import { bracketMatching, HighlightStyle, indentOnInput, syntaxHighlighting } from '@codemirror/language';
import { setDiagnostics } from '@codemirror/lint';
import { highlightSelectionMatches, searchKeymap } from '@codemirror/search';
import { EditorState, type Extension } from '@codemirror/state';
import { drawSelection, EditorView, highlightActiveLine, keymap, lineNumbers } from '@codemirror/view';
import { tags } from '@lezer/highlight';

export type EditorLanguage = 'typescript' | 'javascript' | 'json';

export interface EditorOptions {
  host: HTMLElement;
  value: string;
  language: EditorLanguage;
  label: string;
  readonly: boolean;
  onchange: (value: string) => void;
  onsave?: () => void;
  onrun?: () => void;
}

/** 1-based, as the server counts. */
export interface Mark {
  line: number;
  column: number;
  message: string;
}

const theme = EditorView.theme({
  '&': { height: '100%', fontSize: '13px', color: 'var(--text)', backgroundColor: 'transparent' },
  '&.cm-focused': { outline: 'none' },
  '.cm-scroller': { fontFamily: 'var(--mono)', lineHeight: '1.6', overflow: 'auto' },
  '.cm-content': { caretColor: 'var(--text)' },
  '.cm-cursor': { borderLeftColor: 'var(--text)' },
  '.cm-gutters': { backgroundColor: 'transparent', color: 'var(--text-faint)', border: 'none' },
  '.cm-activeLine': { backgroundColor: 'color-mix(in srgb, var(--hover) 60%, transparent)' },
  '&.cm-focused > .cm-scroller > .cm-selectionLayer .cm-selectionBackground, .cm-selectionBackground': {
    backgroundColor: 'color-mix(in srgb, var(--accent) 24%, transparent)',
  },
  '.cm-tooltip, .cm-panels': { backgroundColor: 'var(--raised)', color: 'var(--text)', border: '1px solid var(--line)' },
  '.cm-tooltip-autocomplete ul li[aria-selected]': { backgroundColor: 'var(--accent-soft)', color: 'var(--text)' },
});

const colours = HighlightStyle.define([
  { tag: [tags.keyword, tags.modifier, tags.controlKeyword], color: 'var(--info)' },
  { tag: [tags.string, tags.special(tags.string), tags.regexp], color: 'var(--good)' },
  { tag: [tags.number, tags.bool, tags.null], color: 'var(--accent)' },
  { tag: [tags.comment], color: 'var(--text-faint)', fontStyle: 'italic' },
  { tag: [tags.typeName, tags.className], color: 'var(--warn)' },
  { tag: [tags.function(tags.variableName), tags.propertyName], color: 'var(--text)' },
]);

const LANGUAGES: Record<EditorLanguage, () => Extension> = {
  typescript: () => javascript({ typescript: true }),
  javascript: () => javascript(),
  json: () => json(),
};

/**
 * Puts an editor into a shadow root of `host`: in a document CodeMirror writes `<style>` elements,
 * which the content security policy refuses; in a shadow root it constructs style sheets.
 */
export function createEditor(options: EditorOptions): EditorView {
  const root = options.host.shadowRoot ?? options.host.attachShadow({ mode: 'open' });
  const keys = [
    { key: 'Mod-s', preventDefault: true, run: () => (options.onsave?.(), true) },
    { key: 'Mod-Enter', run: () => (options.onrun?.(), true) },
  ];
  return new EditorView({
    parent: root,
    root,
    doc: options.value,
    extensions: [
      keymap.of(keys),
      lineNumbers(),
      history(),
      drawSelection(),
      indentOnInput(),
      bracketMatching(),
      closeBrackets(),
      autocompletion(),
      highlightActiveLine(),
      highlightSelectionMatches(),
      syntaxHighlighting(colours),
      LANGUAGES[options.language](),
      keymap.of([...defaultKeymap, ...historyKeymap, ...searchKeymap, indentWithTab]),
      EditorState.readOnly.of(options.readonly),
      EditorView.contentAttributes.of({ 'aria-label': options.label, tabindex: '0' }),
      EditorView.updateListener.of((update) => update.docChanged && options.onchange(update.state.doc.toString())),
      theme,
    ],
  });
}

/** Underlines where the server found fault; none takes the marks away. */
export function mark(view: EditorView, marks: readonly Mark[]): void {
  const { doc } = view.state;
  const diagnostics = marks
    .filter(({ line }) => line >= 1 && line <= doc.lines)
    .map(({ line, column, message }) => {
      const at = doc.line(line);
      const from = Math.min(at.from + Math.max(0, column - 1), at.to);
      return { from, to: Math.min(from + 1, at.to) || from, severity: 'error' as const, message };
    });
  view.dispatch(setDiagnostics(view.state, diagnostics));
}
