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
  children: Map<number, Node>;
  /** Indices of routes whose prefix ends here, ascending. */
  routes: number[];
}

/** Up to this many routes a plain walk is the faster way. */
const walkedRoutes = 6;

export class RouteIndex {
  readonly list: readonly Route[];
  readonly #isWalked: boolean;
  readonly #exact = new Map<string, number[]>();
  readonly #root: Node = { label: "", children: new Map(), routes: [] };
  readonly #rest: number[] = [];

  constructor(routes: readonly Route[]) {
    this.list = routes;
    this.#isWalked = routes.length <= walkedRoutes;
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
      const child = node.children.get(path.charCodeAt(at));
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
    const child = node.children.get(code);
    if (child === undefined) {
      node.children.set(code, { label: text.slice(at), children: new Map(), routes: [index] });
      return;
    }
    let shared = 0;
    while (shared < child.label.length && child.label.charCodeAt(shared) === text.charCodeAt(at + shared)) shared++;
    if (shared < child.label.length) {
      const upper: Node = { label: child.label.slice(0, shared), children: new Map(), routes: [] };
      child.label = child.label.slice(shared);
      upper.children.set(child.label.charCodeAt(0), child);
      node.children.set(code, upper);
      node = upper;
    } else node = child;
    at += shared;
  }
  node.routes.push(index);
}
