/** Two texts and what differs between them. Loaded when a difference is shown, never before. */
import { unifiedMergeView } from '@codemirror/merge';
import { syntaxHighlighting } from '@codemirror/language';
import { EditorState } from '@codemirror/state';
import { EditorView, lineNumbers } from '@codemirror/view';

import { colours, type EditorLanguage, LANGUAGES, theme } from './editor';

export interface DiffOptions {
  host: HTMLElement;
  before: string;
  after: string;
  language: EditorLanguage;
  label: string;
}

const diffTheme = EditorView.theme({
  '.cm-changedLine': { backgroundColor: 'color-mix(in srgb, var(--good) 12%, transparent)' },
  '.cm-changedText': { background: 'color-mix(in srgb, var(--good) 28%, transparent)' },
  '.cm-deletedChunk': { backgroundColor: 'color-mix(in srgb, var(--bad) 12%, transparent)', paddingLeft: '6px' },
  '.cm-deletedChunk .cm-deletedText': { background: 'color-mix(in srgb, var(--bad) 28%, transparent)' },
  '.cm-collapsedLines': { background: 'var(--hover)', color: 'var(--text-soft)' },
});

/** What was taken away stands above what came; long stretches that are the same are folded. */
export function createDiff({ host, before, after, language, label }: DiffOptions): EditorView {
  const root = host.shadowRoot ?? host.attachShadow({ mode: 'open' });
  return new EditorView({
    parent: root,
    root,
    doc: after,
    extensions: [
      lineNumbers(),
      syntaxHighlighting(colours),
      LANGUAGES[language](),
      unifiedMergeView({ original: before, mergeControls: false, gutter: true, collapseUnchanged: { margin: 3, minSize: 6 } }),
      EditorState.readOnly.of(true),
      EditorView.editable.of(false),
      EditorView.contentAttributes.of({ 'aria-label': label, tabindex: '0', role: 'textbox', 'aria-readonly': 'true' }),
      theme,
      diffTheme,
    ],
  });
}
