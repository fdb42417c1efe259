/** A long list scrolled through, a frame at a time. */

export const FRAMES = 100;

/** Scrolls through the whole list, a hundredth of it a frame; run in the page. Answers with the most rows there were. */
export function scrollThrough(box: Element, frames: number): Promise<number> {
  return new Promise((resolve) => {
    let [rowsMax, frame] = [0, 0];
    const step = (): void => {
      rowsMax = Math.max(rowsMax, box.querySelectorAll('[role=row]').length);
      if (frame === frames) return resolve(rowsMax);
      frame += 1;
      box.scrollTop = (box.scrollHeight * frame) / frames;
      requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
  });
}
