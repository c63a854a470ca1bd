export interface DocumentText {
  readonly text: string;
  /** The line of the file on which the text starts, from 1. */
  readonly firstLine: number;
}

/**
 * Cuts a YAML stream at its `---` and `...` lines. By the YAML specification such a line can't be content, not even in a
 * block scalar, so that the cut is exact and a document that is broken never swallows its neighbours. Pieces without content
 * (blank lines, comments, directives) are left out.
 */
export function splitDocuments(text: string): DocumentText[] {
  const documents: DocumentText[] = [];
  let start = 0;
  let firstLine = 1;
  let line = 1;
  const push = (end: number) => {
    const piece = text.slice(start, end);
    if (hasContent(piece)) documents.push({ text: piece, firstLine });
  };
  for (let lineStart = 0; lineStart < text.length; line++) {
    const newline = text.indexOf("\n", lineStart);
    const lineEnd = newline < 0 ? text.length : newline + 1;
    if (isMarker(text, lineStart)) {
      push(lineStart);
      // The rest of a `---` line may hold content.
      start = lineStart + 3;
      firstLine = line;
    }
    lineStart = lineEnd;
  }
  push(text.length);
  return documents;
}

function isMarker(text: string, at: number): boolean {
  if (!text.startsWith("---", at) && !text.startsWith("...", at)) return false;
  const next = text.charCodeAt(at + 3);
  return Number.isNaN(next) || next === 0x20 || next === 0x09 || next === 0x0a || next === 0x0d;
}

function hasContent(piece: string): boolean {
  return /^[ \t]*[^\s#%]/m.test(piece);
}
