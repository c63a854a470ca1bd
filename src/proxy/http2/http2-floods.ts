/** What a client does to excess on one connection. Source: Envoy's Http2ProtocolOptions (defaults), premature resets as in its connection manager. */

const maxEmptyFrames = 1;
const maxPriorityFramesPerStream = 100;
const maxWaitingAnswers = 1_000;
const maxPrematureResets = 500;
const leastRemembered = 100;

export class Http2Floods {
  #emptyFrames = 0;
  #priorityFrames = 0;
  #requests = 0;
  #prematureResets = 0;
  #waitingAnswers = 0;
  /** Streams that we have reset: frames for them may be on their way. */
  readonly #reset = new Set<number>();
  readonly #maxRemembered: number;

  /** `maxConcurrentStreams`: of so many a client may not have heard yet. */
  constructor(maxConcurrentStreams: number) {
    this.#maxRemembered = Math.max(maxConcurrentStreams, leastRemembered);
  }

  /** True: too many of them in a row. */
  emptyFrame(): boolean {
    return ++this.#emptyFrames > maxEmptyFrames;
  }

  usefulFrame(): void {
    this.#emptyFrames = 0;
  }

  priorityFrame(): boolean {
    return ++this.#priorityFrames > maxPriorityFramesPerStream * (1 + this.#requests);
  }

  requestBegan(): void {
    this.#requests++;
    this.#emptyFrames = 0;
  }

  /** True: half of all requests were given up before they had their answer, and that many times. */
  resetByClient(isPremature: boolean): boolean {
    if (isPremature) this.#prematureResets++;
    return this.#prematureResets > maxPrematureResets && 2 * this.#prematureResets > this.#requests;
  }

  /** Something that a client can ask for at will has to wait for it to read. True: too often. */
  answerWaits(): boolean {
    return ++this.#waitingAnswers > maxWaitingAnswers;
  }

  resetByUs(streamId: number): void {
    this.#reset.add(streamId);
    if (this.#reset.size > this.#maxRemembered) this.#reset.delete(this.#reset.values().next().value!);
  }

  wasResetByUs(streamId: number): boolean {
    return this.#reset.has(streamId);
  }
}
