/** The language service's thread: a message in, an answer out, in order. */
import { libs } from './libs';
import { ScriptLanguage } from './service';

export interface Ask {
  id: number;
  method: 'surround' | 'check' | 'complete' | 'detail' | 'hover';
  given: unknown[];
}

export interface Answer {
  id: number;
  value?: unknown;
  error?: string;
}

const language = new ScriptLanguage(libs);

self.onmessage = ({ data }: MessageEvent<Ask>) => {
  const { id, method, given } = data;
  let answer: Answer;
  try {
    answer = { id, value: (language[method] as (...given: unknown[]) => unknown).apply(language, given) };
  } catch (error) {
    answer = { id, error: String(error) };
  }
  self.postMessage(answer);
};
