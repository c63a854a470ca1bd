/** MT19937 (Matsumoto, Nishimura), std::mt19937: where the same seed must give the same numbers as elsewhere. */
const size = 624;
const middle = 397;

export class MersenneTwister {
  readonly #state = new Uint32Array(size);
  #at = size;

  /** 32 bits count. */
  constructor(seed: number) {
    const state = this.#state;
    state[0] = seed;
    for (let i = 1; i < size; i++) state[i] = Math.imul(1_812_433_253, state[i - 1]! ^ (state[i - 1]! >>> 30)) + i;
  }

  /** Uniform, 32 bits. */
  next(): number {
    if (this.#at === size) this.#twist();
    let bits = this.#state[this.#at++]!;
    bits ^= bits >>> 11;
    bits ^= (bits << 7) & 0x9d2c5680;
    bits ^= (bits << 15) & 0xefc60000;
    return (bits ^ (bits >>> 18)) >>> 0;
  }

  /** Uniform from 0 on, below `count`. */
  below(count: number): number {
    const width = Math.floor(2 ** 32 / count);
    for (;;) {
      const drawn = Math.floor(this.next() / width);
      if (drawn < count) return drawn;
    }
  }

  #twist(): void {
    const state = this.#state;
    for (let i = 0; i < size; i++) {
      const bits = (state[i]! & 0x80000000) | (state[(i + 1) % size]! & 0x7fffffff);
      state[i] = state[(i + middle) % size]! ^ (bits >>> 1) ^ (bits & 1 ? 0x9908b0df : 0);
    }
    this.#at = 0;
  }
}
