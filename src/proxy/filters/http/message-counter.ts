/** Counts the messages of a gRPC stream as they begin: each is a flag, four bytes of length, and so many bytes. */

const lengthBytes = 4;

export class MessageCounter {
  total = 0;
  /** Of the present message's length; -1: its flag has not come. */
  #lengthRead = -1;
  #length = 0;
  #bodyLeft = 0;

  /** How many begin in `chunk`. Hot. */
  count(chunk: Buffer): number {
    const before = this.total;
    const end = chunk.length;
    let at = 0;
    while (at < end) {
      if (this.#bodyLeft > 0) {
        const size = Math.min(this.#bodyLeft, end - at);
        this.#bodyLeft -= size;
        at += size;
      } else if (this.#lengthRead < 0) {
        this.total++;
        this.#lengthRead = 0;
        this.#length = 0;
        at++;
      } else {
        this.#length = this.#length * 256 + chunk[at++]!;
        if (++this.#lengthRead === lengthBytes) {
          this.#lengthRead = -1;
          this.#bodyLeft = this.#length;
        }
      }
    }
    return this.total - before;
  }
}
