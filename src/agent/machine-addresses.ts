/** Addresses of this machine, and how the one that the mesh knows is followed when it changes. */
import { networkInterfaces } from "node:os";
import { log } from "../lib/log.ts";
import { wildcardAddresses } from "../lib/wildcard-address.ts";

const scope = log.scope("address");

export interface MachineAddress {
  readonly interface: string;
  readonly family: string;
  readonly address: string;
}

/** Of interfaces that are up, without loopback and link-local ones. */
export function machineAddresses(): MachineAddress[] {
  return Object.entries(networkInterfaces()).flatMap(([name, list = []]) =>
    list
      .filter(({ internal, address }) => !internal && !address.startsWith("fe80:") && !address.startsWith("169.254."))
      .map(({ family, address }) => ({ interface: name, family, address })),
  );
}

const loopback: MachineAddress = { interface: "", family: "IPv4", address: "127.0.0.1" };
const defaultPollMs = 1000;

/** The machine is called by another address from now on, the first of these; or it has addresses of other families than before. */
export type OnMoved = (addresses: readonly string[]) => void;

export interface AddressWatchOptions {
  readonly pollMs?: number;
  readonly read?: () => readonly MachineAddress[];
}

/**
 * The machine's address in the mesh is its first one, for as long as it is there. When it is gone, another one of the same interface takes its
 * place; one of another interface does not, because that may be a bridge of containers that nobody else can reach. While an interface is
 * down there is nothing to follow: it comes back with the old address, or with a new one. Of the others only the families count, to which the
 * proxy listens.
 */
export class AddressWatch implements Disposable {
  readonly #options: AddressWatchOptions;
  #timer: NodeJS.Timeout | undefined;
  #present: MachineAddress;
  #others: readonly string[];
  /** Seen once: an address has to stay before it counts. */
  #candidate: string | undefined;
  #isMissed = false;

  constructor(options: AddressWatchOptions = {}) {
    this.#options = options;
    const [first = loopback, ...others] = this.#read();
    this.#present = first;
    this.#others = others.map(({ address }) => address);
  }

  /** Looks from now on whether the machine still has its address. Linux would tell at once, but only who reads sockets of a kind Node has not. */
  follow(onMoved: OnMoved): void {
    this.#timer = setInterval(() => this.#look(onMoved), this.#options.pollMs ?? defaultPollMs).unref();
  }

  /** The first one is what others call; loopback when there is nothing else. */
  get addresses(): readonly string[] {
    return [this.#present.address, ...this.#others];
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }

  #read(): readonly MachineAddress[] {
    return (this.#options.read ?? machineAddresses)();
  }

  #look(onMoved: OnMoved): void {
    const present = this.#present;
    const all = this.#read();
    const isThere = present !== loopback && all.some(({ address }) => address === present.address);
    const next = isThere ? present : successorOf(present, all);
    if (next || present === loopback) this.#isMissed = false;
    else this.#miss(present);
    const others = all.flatMap(({ address }) => (address === next?.address ? [] : [address]));
    const seen = next && summaryOf([next.address, ...others]);
    const isNew = seen !== undefined && seen !== summaryOf(this.addresses);
    const wasSeen = seen === this.#candidate;
    this.#candidate = isNew ? seen : undefined;
    if (!next || !isNew || !wasSeen) return;
    this.#candidate = undefined;
    this.#present = next;
    this.#others = others;
    if (isThere) scope.info("this machine has addresses of other families now", { addresses: this.addresses.join(",") });
    else scope.warn("the address of this machine has changed", { from: present.address, to: next.address, interface: next.interface });
    onMoved(this.addresses);
  }

  #miss({ address, interface: name }: MachineAddress): void {
    if (this.#isMissed) return;
    this.#isMissed = true;
    scope.warn("the address of this machine is gone", { address, interface: name });
  }
}

/** What of them counts for others. */
function summaryOf(addresses: readonly string[]): string {
  return [addresses[0], ...wildcardAddresses(addresses, true)].join();
}

function successorOf(present: MachineAddress, all: readonly MachineAddress[]): MachineAddress | undefined {
  if (present === loopback) return all[0];
  const near = all.filter((one) => one.interface === present.interface);
  return near.find(({ family }) => family === present.family) ?? near[0];
}
