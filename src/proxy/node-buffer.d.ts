/** Methods that every Buffer has, faster than toString and write because no encoding is looked up; @types/node leaves them out. */
interface Buffer {
  latin1Slice(start?: number, end?: number): string;
  latin1Write(text: string, offset?: number, length?: number): number;
}
