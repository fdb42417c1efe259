/** The single-use code of a login link, which travels in the fragment: `#code=…`. */
export function codeOf(hash: string): string | null {
  return new URLSearchParams(hash.replace(/^#/, '')).get('code') || null;
}
