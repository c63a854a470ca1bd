import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { AddressWatch, type MachineAddress } from "./machine-addresses.ts";

const at = (name: string, address: string): MachineAddress => ({
  interface: name,
  family: address.includes(":") ? "IPv6" : "IPv4",
  address,
});
const docker = at("docker0", "172.17.0.1");

describe("AddressWatch", () => {
  let present: MachineAddress[];
  let moves: (readonly string[])[];
  let watch: AddressWatch;
  const begin = (...first: MachineAddress[]) => {
    present = first;
    moves = [];
    watch = new AddressWatch({ pollMs: 1000, read: () => present });
    watch.follow((addresses) => void moves.push(addresses));
  };
  const becomes = async (...now: MachineAddress[]) => {
    present = now;
    await vi.advanceTimersByTimeAsync(5000);
  };
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => {
    watch[Symbol.dispose]();
    vi.useRealTimers();
  });

  it("moves to the address that takes the place of the first, by the same interface and of the same family", async () => {
    begin(at("eth0", "10.0.0.5"), at("eth1", "10.9.9.9"));
    await becomes(at("eth1", "10.9.9.9"), at("eth0", "fd00::6"), at("eth0", "10.0.0.6"));
    expect(moves).toEqual([["10.0.0.6", "10.9.9.9", "fd00::6"]]);
    expect(watch.addresses[0]).toBe("10.0.0.6");
  });

  it("stays while the first is there, whatever comes beside it", async () => {
    begin(at("eth0", "10.0.0.5"));
    await becomes(docker, at("eth0", "10.0.0.6"), at("eth0", "10.0.0.5"));
    expect(moves).toEqual([]);
  });

  it("tells of another family that comes or goes, and of nothing else beside the first", async () => {
    begin(at("eth0", "10.0.0.5"));
    present = [at("eth0", "10.0.0.5"), at("eth0", "fd00::5")];
    await vi.advanceTimersByTimeAsync(1000);
    expect(moves).toEqual([]);
    await becomes(at("eth0", "10.0.0.5"), at("eth0", "fd00::5"));
    await becomes(at("eth0", "10.0.0.5"), at("eth0", "fd00::6"), docker);
    expect(moves).toEqual([["10.0.0.5", "fd00::5"]]);
    await becomes(at("eth0", "10.0.0.5"));
    expect(moves.slice(1)).toEqual([["10.0.0.5"]]);
  });

  it("waits for an interface that is down, and does not go to another one's address", async () => {
    begin(at("eth0", "10.0.0.5"), docker);
    await becomes(docker);
    await becomes();
    expect(moves).toEqual([]);
    await becomes(at("eth0", "10.0.0.5"), docker);
    expect(moves).toEqual([]);
    await becomes(docker);
    await becomes(docker, at("eth0", "10.0.0.8"));
    expect(moves).toEqual([["10.0.0.8", "172.17.0.1"]]);
  });

  it("does not take an address that is gone at the next look", async () => {
    begin(at("eth0", "10.0.0.5"));
    present = [at("eth0", "10.0.0.6")];
    await vi.advanceTimersByTimeAsync(1000);
    await becomes(at("eth0", "10.0.0.5"));
    expect(moves).toEqual([]);
  });

  it("takes the first that comes on a machine that had none", async () => {
    begin();
    expect(watch.addresses).toEqual(["127.0.0.1"]);
    await becomes(at("eth0", "10.0.0.5"));
    expect(moves).toEqual([["10.0.0.5"]]);
  });
});
