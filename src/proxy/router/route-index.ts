/**
 * The routes of one virtual host, filed so that finding the first that matches does not walk all of them.
 *
 * Every route has one path criterion. Exact paths are in a map, prefixes in a radix tree, everything else (regular
 * expressions, case-insensitive paths, CONNECT) in a list. A request collects the candidates (the exact entry, the tree
 * nodes along its path, the list), checks each group in ascending order, and keeps the lowest index: first match in list
 * order, whatever group it came from.
 */
import type { StreamInfo } from "../stream-info.ts";
import type { Route } from "./route.ts";

interface Node {
  /** Characters between the parent and this node. */
  label: string;
  /** null: none, as of most. */
  children: Map<number, Node> | null;
  /** Indices of routes whose prefix ends here, ascending. */
  routes: number[];
}

/** Up to this many routes a plain walk is the faster way. */
const walkedRoutes = 6;

export class RouteIndex {
  readonly list: readonly Route[];
  readonly #isWalked: boolean;
  readonly #exact: Map<string, number[]>;
  readonly #root: Node;
  readonly #rest: number[];

  /** `filed`: has routes of the same paths in the same places. */
  constructor(routes: readonly Route[], filed?: RouteIndex) {
    this.list = routes;
    this.#isWalked = routes.length <= walkedRoutes;
    if (filed !== undefined) {
      this.#exact = filed.#exact;
      this.#root = filed.#root;
      this.#rest = filed.#rest;
      return;
    }
    this.#exact = new Map();
    this.#root = { label: "", children: null, routes: [] };
    this.#rest = [];
    for (const [index, route] of routes.entries()) {
      const { kind, text } = route.pathCriterion;
      if (kind === "exact") {
        const known = this.#exact.get(text);
        if (known) known.push(index);
        else this.#exact.set(text, [index]);
      } else if (kind === "prefix") insert(this.#root, text, index);
      else this.#rest.push(index);
    }
  }

  /** Other routes, filed anew only if their paths are others. */
  withRoutes(routes: readonly Route[]): RouteIndex {
    const { list } = this;
    const isAlike =
      routes.length === list.length &&
      routes.every(({ pathCriterion: { kind, text } }, index) => {
        const known = list[index]!.pathCriterion;
        return known.kind === kind && known.text === text;
      });
    return new RouteIndex(routes, isAlike ? this : undefined);
  }

  /** Hot. */
  find(info: StreamInfo): Route | null {
    const path = pathWithoutQuery(info.path);
    const list = this.list;
    if (this.#isWalked) {
      for (let i = 0; i < list.length; i++) if (list[i]!.matches(path, info)) return list[i]!;
      return null;
    }
    let best = list.length;
    const exact = this.#exact.get(path);
    if (exact !== undefined) best = this.#first(exact, best, path, info);
    let node = this.#root;
    let at = 0;
    for (;;) {
      if (node.routes.length > 0) best = this.#first(node.routes, best, path, info);
      const child = node.children?.get(path.charCodeAt(at));
      if (child === undefined || !path.startsWith(child.label, at)) break;
      at += child.label.length;
      node = child;
    }
    best = this.#first(this.#rest, best, path, info);
    return best === list.length ? null : list[best]!;
  }

  #first(indices: readonly number[], best: number, path: string, info: StreamInfo): number {
    for (let i = 0; i < indices.length; i++) {
      const index = indices[i]!;
      if (index >= best) return best;
      if (this.list[index]!.matches(path, info)) return index;
    }
    return best;
  }
}

export function pathWithoutQuery(path: string): string {
  const query = path.indexOf("?");
  const fragment = path.indexOf("#");
  if (query < 0 && fragment < 0) return path;
  return path.slice(0, query < 0 ? fragment : fragment < 0 ? query : Math.min(query, fragment));
}

function insert(root: Node, text: string, index: number): void {
  let node = root;
  let at = 0;
  while (at < text.length) {
    const code = text.charCodeAt(at);
    node.children ??= new Map();
    const child = node.children.get(code);
    if (child === undefined) {
      node.children.set(code, { label: text.slice(at), children: null, routes: [index] });
      return;
    }
    let shared = 0;
    while (shared < child.label.length && child.label.charCodeAt(shared) === text.charCodeAt(at + shared)) shared++;
    if (shared < child.label.length) {
      const upper: Node = { label: child.label.slice(0, shared), children: null, routes: [] };
      child.label = child.label.slice(shared);
      upper.children = new Map([[child.label.charCodeAt(0), child]]);
      node.children.set(code, upper);
      node = upper;
    } else node = child;
    at += shared;
  }
  node.routes.push(index);
}
