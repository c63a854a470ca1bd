import { describe, expect, it } from "vitest";
import type { ConfigObject } from "../../../api/kinds/object.ts";
import { ListPages } from "./list-pages.ts";

const objects = Array.from({ length: 7 }, (_, index) => ({ metadata: { name: `o${index}` } }) as ConfigObject);

describe("ListPages", () => {
  it("goes through a list once, whatever its state becomes", () => {
    const pages = new ListPages();
    const first = pages.first(objects, "pods", 42, 3);
    const second = pages.next(first.next!, "pods", 3);
    const third = pages.next(second.next!, "pods", 3);
    expect([first, second, third].map((page) => page.objects.length)).toEqual([3, 3, 1]);
    expect([first, second, third].flatMap((page) => page.objects)).toEqual(objects);
    expect([first, second, third].map(({ revision, remaining }) => [revision, remaining])).toEqual([
      [42, 4],
      [42, 1],
      [42, 0],
    ]);
    expect(third.next).toBeUndefined();
    expect(pages.next(first.next!, "pods", 3).objects).toEqual(second.objects);
  });

  it("is one page without a limit, or when all fits", () => {
    expect(new ListPages().first(objects, "pods", 1, 0)).toMatchObject({ objects, next: undefined });
    expect(new ListPages().first(objects, "pods", 1, 7)).toMatchObject({ objects, next: undefined });
  });

  it("refuses tokens of other lists and of nobody, and forgets after five minutes and 256 lists", () => {
    let nowMs = 0;
    const pages = new ListPages(() => nowMs);
    const { next } = pages.first(objects, "pods", 1, 3);
    expect(() => pages.next(next!, "secrets", 3)).toThrow(expect.objectContaining({ code: 400 }));
    expect(() => pages.next("nonsense", "pods", 3)).toThrow(expect.objectContaining({ code: 400 }));
    nowMs = 5 * 60_000 + 1;
    expect(() => pages.next(next!, "pods", 3)).toThrow(expect.objectContaining({ code: 410 }));
    const oldest = pages.first(objects, "pods", 1, 3).next!;
    for (let index = 0; index < 256; index++) pages.first(objects, "pods", 1, 3);
    expect(() => pages.next(oldest, "pods", 3)).toThrow(expect.objectContaining({ code: 410 }));
  });
});
