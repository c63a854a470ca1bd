/**
 * An encoded route configuration, taken apart without being decoded: its virtual hosts, and their routes.
 *
 * RDS sends a configuration whole when one of ten thousand routes has changed. What has the bytes that it had before needs neither be
 * checked nor compiled again.
 */
import { fromBinary } from "@bufbuild/protobuf";
import { RouteSchema, type VirtualHost, VirtualHostSchema } from "../../api/gen/envoy/config/route/v3/route_components_pb.js";
import { type RouteConfiguration, RouteConfigurationSchema } from "../../api/gen/envoy/config/route/v3/route_pb.js";

const virtualHostsOfConfiguration = 2;
const routesOfVirtualHost = 3;
const nameOfVirtualHost = 1;
const domainsOfVirtualHost = 2;

/** A message without the elements of one of its lists. */
interface Split {
  readonly rest: Uint8Array;
  readonly elements: readonly Uint8Array[];
}

export interface EncodedVirtualHost {
  readonly bytes: Uint8Array;
  readonly name: string;
  readonly domains: readonly string[];
}

/** What of a virtual host was there before. */
export interface HostChange {
  readonly host: EncodedVirtualHost;
  /** Place among the hosts of before; -1: new, or something about it has changed that its routes inherit. */
  readonly same: number;
  /** null: all routes are what they were. `same`: place among the routes of before, or -1. */
  readonly routes: readonly { readonly bytes: Uint8Array; readonly same: number }[] | null;
}

export interface RoutesChange {
  /** Without virtual hosts. */
  readonly configuration: RouteConfiguration;
  readonly hosts: readonly HostChange[];
}

/** undefined where everything has changed, because what all inherit has. Throws for what is no message. */
export function changeOfRoutes(before: Uint8Array, now: Uint8Array): RoutesChange | undefined {
  const old = split(before, virtualHostsOfConfiguration);
  const next = split(now, virtualHostsOfConfiguration);
  if (!isSame(old.rest, next.rest)) return undefined;
  const oldHosts = new Map(old.elements.map((bytes, index) => [nameOf(bytes), { bytes, index }]));
  const hosts = next.elements.map((bytes): HostChange => {
    const host = encodedHost(bytes);
    const known = oldHosts.get(host.name);
    if (known === undefined) return { host, same: -1, routes: null };
    if (isSame(known.bytes, bytes)) return { host, same: known.index, routes: null };
    const [was, is] = [split(known.bytes, routesOfVirtualHost), split(bytes, routesOfVirtualHost)];
    if (!isSame(was.rest, is.rest)) return { host, same: -1, routes: null };
    return { host, same: known.index, routes: matched(was.elements, is.elements) };
  });
  return { configuration: fromBinary(RouteConfigurationSchema, next.rest), hosts };
}

/** The message of what has changed alone; what of a virtual host is inherited stands there along with its changed routes. */
export function decodeChanged({ configuration, hosts }: RoutesChange): RouteConfiguration {
  const virtualHosts = hosts.flatMap(({ host, same, routes }): VirtualHost[] => {
    if (same < 0) return [fromBinary(VirtualHostSchema, host.bytes)];
    const changed = (routes ?? []).filter((route) => route.same < 0);
    if (changed.length === 0) return [];
    const message = fromBinary(VirtualHostSchema, split(host.bytes, routesOfVirtualHost).rest);
    message.routes = changed.map(({ bytes }) => fromBinary(RouteSchema, bytes));
    return [message];
  });
  return { ...configuration, virtualHosts };
}

/** Routes that were changed in their places, or put in, or taken out, in one stretch of the list. */
function matched(was: readonly Uint8Array[], is: readonly Uint8Array[]): { readonly bytes: Uint8Array; readonly same: number }[] {
  const isShifted = was.length !== is.length;
  let head = 0;
  while (isShifted && head < Math.min(was.length, is.length) && isSame(was[head]!, is[head]!)) head++;
  return is.map((bytes, index) => {
    const place = isShifted && index >= head ? index + was.length - is.length : index;
    return { bytes, same: place >= 0 && place < was.length && isSame(was[place]!, bytes) ? place : -1 };
  });
}

function encodedHost(bytes: Uint8Array): EncodedVirtualHost {
  let name = "";
  const domains: string[] = [];
  visitFields(bytes, (field, start, end) => {
    if (field === nameOfVirtualHost) name = textOf(bytes, start, end);
    if (field === domainsOfVirtualHost) domains.push(textOf(bytes, start, end));
  });
  return { bytes, name, domains };
}

function nameOf(bytes: Uint8Array): string {
  let name = "";
  visitFields(bytes, (field, start, end) => {
    if (field === nameOfVirtualHost) name = textOf(bytes, start, end);
  });
  return name;
}

function split(bytes: Uint8Array, list: number): Split {
  const rest: Uint8Array[] = [];
  const elements: Uint8Array[] = [];
  let kept = 0;
  visitFields(bytes, (field, start, end, tag) => {
    if (field !== list) return;
    elements.push(bytes.subarray(start, end));
    if (tag > kept) rest.push(bytes.subarray(kept, tag));
    kept = end;
  });
  rest.push(bytes.subarray(kept));
  return { rest: Buffer.concat(rest), elements };
}

const wireTypes = { varint: 0, fixed64: 1, delimited: 2, fixed32: 5 } as const;

/** `start` to `end`: a field's content, where it has a length; `tag`: where the field begins. Throws for what is no message. */
function visitFields(bytes: Uint8Array, visit: (field: number, start: number, end: number, tag: number) => void): void {
  let at = 0;
  const varint = () => {
    let value = 0;
    for (let shift = 0; shift < 70; shift += 7) {
      const byte = bytes[at++];
      if (byte === undefined) throw new Error("premature EOF");
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) return value;
    }
    throw new Error("invalid varint");
  };
  while (at < bytes.length) {
    const tag = at;
    const key = varint();
    const type = key % 8;
    let start = at;
    if (type === wireTypes.varint) varint();
    else if (type === wireTypes.fixed64) at += 8;
    else if (type === wireTypes.fixed32) at += 4;
    else if (type === wireTypes.delimited) {
      const length = varint();
      start = at;
      at += length;
    } else throw new Error(`wire type ${type} is not supported`);
    if (at > bytes.length) throw new Error("premature EOF");
    visit(type === wireTypes.delimited ? Math.floor(key / 8) : 0, start, at, tag);
  }
}

function textOf(bytes: Uint8Array, start: number, end: number): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset + start, end - start).toString("utf8");
}

function isSame(one: Uint8Array, other: Uint8Array): boolean {
  return one.length === other.length && Buffer.compare(one, other) === 0;
}
