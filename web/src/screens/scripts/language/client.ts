/** The way to the language service: starts its worker, which is loaded with the first script shown. */
import type { Choices, Fault, Hover, LanguageService } from '../../../ui/editor';
import type { Surroundings } from './service';
import type { Answer, Ask } from './worker';

export class ScriptLanguageClient implements LanguageService {
  #worker = new Worker(new URL('./worker.ts', import.meta.url), { type: 'module' });
  #waiting = new Map<number, { resolve: (value: any) => void; reject: (error: Error) => void }>();
  #last = 0;

  constructor() {
    this.#worker.onmessage = ({ data }: MessageEvent<Answer>) => {
      const waiting = this.#waiting.get(data.id);
      this.#waiting.delete(data.id);
      if (data.error === undefined) waiting?.resolve(data.value);
      else waiting?.reject(new Error(data.error));
    };
    this.#worker.onerror = () => this.close();
  }

  surround(surroundings: Surroundings): Promise<void> {
    return this.#ask('surround', surroundings);
  }

  check(source: string): Promise<Fault[]> {
    return this.#ask('check', source);
  }

  complete(source: string, position: number): Promise<Choices> {
    return this.#ask('complete', source, position);
  }

  detail(source: string, position: number, label: string): Promise<string> {
    return this.#ask('detail', source, position, label);
  }

  hover(source: string, position: number): Promise<Hover | null> {
    return this.#ask('hover', source, position);
  }

  close(): void {
    this.#worker.terminate();
    for (const { reject } of this.#waiting.values()) reject(new Error('the language service has ended'));
    this.#waiting.clear();
  }

  #ask<T>(method: Ask['method'], ...given: unknown[]): Promise<T> {
    const id = (this.#last += 1);
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#worker.postMessage({ id, method, given } satisfies Ask);
    });
  }
}
