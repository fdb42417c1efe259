/** Short notes at the edge of the screen, some with a way back. */
import { asProblem } from '../api/problem';

export interface Toast {
  id: number;
  text: string;
  tone: 'good' | 'bad' | 'quiet';
  /** What takes it back, as long as the note is shown. */
  undo?: () => void | Promise<void>;
}

const SHOWN_MS = { good: 5_000, quiet: 5_000, bad: 12_000, undo: 15_000 };
const SHOWN_MAX = 4;

class Toasts {
  shown = $state<Toast[]>([]);
  #next = 0;

  good(text: string, undo?: Toast['undo']): void {
    this.#show({ text, tone: 'good', undo });
  }

  note(text: string, undo?: Toast['undo']): void {
    this.#show({ text, tone: 'quiet', undo });
  }

  /** Says what failed; takes whatever was thrown. */
  failed(error: unknown): void {
    this.#show({ text: asProblem(error).message, tone: 'bad' });
  }

  async takeBack(toast: Toast): Promise<void> {
    this.dismiss(toast.id);
    try {
      await toast.undo?.();
    } catch (error) {
      this.failed(error);
    }
  }

  dismiss(id: number): void {
    this.shown = this.shown.filter((toast) => toast.id !== id);
  }

  #show(toast: Omit<Toast, 'id'>): void {
    const id = this.#next++;
    this.shown = [...this.shown, { ...toast, id }].slice(-SHOWN_MAX);
    setTimeout(() => this.dismiss(id), toast.undo ? SHOWN_MS.undo : SHOWN_MS[toast.tone]);
  }
}

export const toasts = new Toasts();
