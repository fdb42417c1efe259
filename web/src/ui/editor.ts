/** CodeMirror as the screens use it. Loaded when an editor is shown, never before. */
import { autocompletion, closeBrackets, closeBracketsKeymap, type CompletionContext, type CompletionResult } from '@codemirror/autocomplete';
import { defaultKeymap, history, historyKeymap, indentWithTab } from '@codemirror/commands';
import { javascript } from '@codemirror/lang-javascript';
import { json } from '@codemirror/lang-json';
import { bracketMatching, HighlightStyle, indentOnInput, syntaxHighlighting } from '@codemirror/language';
import { type Diagnostic, diagnosticCount, lintGutter, lintKeymap, linter, nextDiagnostic, openLintPanel, setDiagnosticsEffect } from '@codemirror/lint';
import { highlightSelectionMatches, searchKeymap } from '@codemirror/search';
import { EditorState, type Extension, StateEffect, StateField } from '@codemirror/state';
import { drawSelection, EditorView, highlightActiveLine, hoverTooltip, keymap, lineNumbers, type Tooltip } from '@codemirror/view';
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
  /** Asked whenever it is needed: it may come later than the editor. */
  service?: () => LanguageService | null;
  /** How many faults are marked. */
  onfaults?: (count: number) => void;
}

/** Places are offsets. */
export interface Fault {
  from: number;
  to: number;
  severity: 'error' | 'warning';
  message: string;
  source?: string;
}

export type Choices = { label: string; type: string; boost: number }[];

export interface Hover {
  from: number;
  to: number;
  text: string;
}

/** Knows the language of the text: finds faults, completes, explains. */
export interface LanguageService {
  check(text: string): Promise<Fault[]>;
  complete(text: string, position: number): Promise<Choices>;
  detail(text: string, position: number, label: string): Promise<string>;
  hover(text: string, position: number): Promise<Hover | null>;
}

/** 1-based, as the server counts. */
export interface Mark {
  line: number;
  column: number;
  message: string;
}

export const theme = EditorView.theme({
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
  '.cm-tooltip': { borderRadius: 'var(--radius-m)', boxShadow: 'var(--shadow)' },
  '.cm-explained': { maxWidth: '32rem', maxHeight: '16rem', overflow: 'auto', padding: '6px 10px', whiteSpace: 'pre-wrap', overflowWrap: 'anywhere', fontFamily: 'var(--mono)', fontSize: '12px' },
  '.cm-diagnostic-error': { borderLeftColor: 'var(--bad)' },
  '.cm-diagnostic-warning': { borderLeftColor: 'var(--warn)' },
  '.cm-diagnosticSource': { opacity: 1, color: 'var(--text-faint)' },
  '.cm-panel.cm-panel-lint ul [aria-selected]': { backgroundColor: 'var(--accent-soft)' },
  '.cm-panel.cm-panel-lint ul:focus [aria-selected]': { backgroundColor: 'var(--accent-soft)' },
  '.cm-panel.cm-panel-lint button[name=close]': { color: 'var(--text)' },
  '.cm-tooltip-autocomplete ul li[aria-selected]': { backgroundColor: 'var(--accent-soft)', color: 'var(--text)' },
});

export const colours = HighlightStyle.define([
  { tag: [tags.keyword, tags.modifier, tags.controlKeyword], color: 'var(--info)' },
  { tag: [tags.string, tags.special(tags.string), tags.regexp], color: 'var(--good)' },
  { tag: [tags.number, tags.bool, tags.null], color: 'var(--accent)' },
  { tag: [tags.comment], color: 'var(--text-faint)', fontStyle: 'italic' },
  { tag: [tags.typeName, tags.className], color: 'var(--warn)' },
  { tag: [tags.function(tags.variableName), tags.propertyName], color: 'var(--text)' },
]);

export const LANGUAGES: Record<EditorLanguage, () => Extension> = {
  typescript: () => javascript({ typescript: true }),
  javascript: () => javascript(),
  json: () => json(),
};

function doneBy(deed: (() => void) | undefined): boolean {
  deed?.();
  return deed !== undefined;
}

/**
 * Puts an editor into a shadow root of `host`: in a document CodeMirror writes `<style>` elements,
 * which the content security policy refuses; in a shadow root it constructs style sheets.
 */
export function createEditor(options: EditorOptions): EditorView {
  const root = options.host.shadowRoot ?? options.host.attachShadow({ mode: 'open' });
  const keys = [
    // Without anything to do here they are the page's.
    { key: 'Mod-s', run: () => doneBy(options.onsave) },
    { key: 'Mod-Enter', run: () => doneBy(options.onrun) },
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
      options.language === 'json' ? autocompletion() : [completion(options), hovers(options)],
      faults(options),
      overSelections,
      highlightActiveLine(),
      highlightSelectionMatches(),
      syntaxHighlighting(colours),
      LANGUAGES[options.language](),
      keymap.of([...closeBracketsKeymap, ...lintKeymap, ...defaultKeymap, ...historyKeymap, ...searchKeymap, indentWithTab]),
      EditorState.readOnly.of(options.readonly),
      EditorView.contentAttributes.of({ 'aria-label': options.label, tabindex: '0' }),
      EditorView.updateListener.of((update) => update.docChanged && options.onchange(update.state.doc.toString())),
      theme,
    ],
  });
}

/**
 * What is typed over a selection, or deletes it from a menu, changes the text here and not in the DOM.
 *
 * CodeMirror lets the browser edit and reads afterwards what became of it. Chromium joins lines by copying
 * their looks into `style` attributes, and the content security policy refuses each of these aloud.
 * Compositions stay the browser's: they may begin with what is selected.
 */
const overSelections = EditorView.domEventHandlers({
  beforeinput(event, view) {
    const { main } = view.state.selection;
    const text = event.inputType === 'insertText' ? event.data : event.inputType.startsWith('delete') ? '' : null;
    if (text === null || main.empty || !event.cancelable || event.isComposing || view.composing) return false;
    if (view.state.readOnly) return true;
    const userEvent = text ? 'input.type' : 'delete.selection';
    const replace = () => view.state.update(view.state.replaceSelection(text), { userEvent, scrollIntoView: true });
    // Brackets go around what is selected, and whatever else reads what is typed.
    const isTaken = text !== '' && view.state.facet(EditorView.inputHandler).some((handle) => handle(view, main.from, main.to, text, replace));
    if (!isTaken) view.dispatch(replace());
    return true;
  },
});

/** What the server found fault with, as long as the text is the one it saw. */
const setMarks = StateEffect.define<readonly Mark[]>();
const recheck = StateEffect.define<null>();
const marksField = StateField.define<readonly Mark[]>({
  create: () => [],
  update(marks, transaction) {
    for (const effect of transaction.effects) if (effect.is(setMarks)) return effect.value;
    return transaction.docChanged ? [] : marks;
  },
});

const CHECK_AFTER_MS = 250;

/** Marks of the server and of the language service, F8 goes from one to the next. */
function faults(options: EditorOptions): Extension {
  const source = async (view: EditorView): Promise<Diagnostic[]> => {
    const { doc } = view.state;
    const marks = view.state.field(marksField);
    // A service that fails takes nothing but its own marks away.
    const found = await (options.service?.()?.check(doc.toString()) ?? Promise.resolve([])).catch((): Fault[] => []);
    const within = (at: number): number => Math.min(Math.max(0, at), doc.length);
    return [
      ...marks
        .filter(({ line }) => line >= 1 && line <= doc.lines)
        .map(({ line, column, message }): Diagnostic => {
          const at = doc.line(line);
          const from = Math.min(at.from + Math.max(0, column - 1), at.to);
          return { from, to: Math.min(from + 1, at.to) || from, severity: 'error', message };
        }),
      ...found.map((fault): Diagnostic => ({ ...fault, from: within(fault.from), to: within(fault.to) })),
    ].sort((a, b) => a.from - b.from);
  };
  const count = EditorView.updateListener.of((update) => {
    const isNew = update.transactions.some((one) => one.effects.some((effect) => effect.is(setDiagnosticsEffect)));
    if (isNew) options.onfaults?.(diagnosticCount(update.state));
  });
  const isAsked = (effects: readonly StateEffect<unknown>[]): boolean => effects.some((effect) => effect.is(setMarks) || effect.is(recheck));
  return [
    marksField,
    linter(source, { delay: CHECK_AFTER_MS, needsRefresh: (update) => update.transactions.some((one) => isAsked(one.effects)) }),
    lintGutter(),
    count,
  ];
}

function completion(options: EditorOptions): Extension {
  const source = async (context: CompletionContext): Promise<CompletionResult | null> => {
    const service = options.service?.();
    const word = context.matchBefore(/[\w$]*$/);
    const from = word?.from ?? context.pos;
    const isMember = context.state.sliceDoc(from - 1, from) === '.';
    if (!service || (from === context.pos && !isMember && !context.explicit)) return null;
    const text = context.state.doc.toString();
    const choices = await service.complete(text, context.pos).catch(() => []);
    return {
      from,
      validFor: /^[\w$]*$/,
      options: choices.map((choice) => ({ ...choice, info: async () => explained(await service.detail(text, context.pos, choice.label).catch(() => '')) })),
    };
  };
  return autocompletion({ override: [source], icons: false });
}

function explained(text: string): HTMLElement {
  const element = document.createElement('div');
  element.className = 'cm-explained';
  element.textContent = text;
  return element;
}

function hovers(options: EditorOptions): Extension {
  return hoverTooltip(async (view, position): Promise<Tooltip | null> => {
    const found = await (options.service?.()?.hover(view.state.doc.toString(), position) ?? Promise.resolve(null)).catch(() => null);
    return found && { pos: found.from, end: found.to, above: true, create: () => ({ dom: explained(found.text) }) };
  });
}

/** Marks where the server found fault; none takes the marks away. */
export function mark(view: EditorView, marks: readonly Mark[]): void {
  view.dispatch({ effects: setMarks.of(marks) });
}

/** The language service knows more than before. */
export function checkAgain(view: EditorView): void {
  view.dispatch({ effects: recheck.of(null) });
}

/** To the next fault, and the list of all. */
export function goToNext(view: EditorView): void {
  nextDiagnostic(view);
  view.focus();
}

export function listFaults(view: EditorView): void {
  openLintPanel(view);
}
