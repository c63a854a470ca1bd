/** Bookinfo's ratings: stars by reviewer, kept in memory; a POST sets them. */
import { json, type SampleHandler } from "../sample.ts";

const initial = { Reviewer1: 5, Reviewer2: 4 };

export function ratingsService(): SampleHandler {
  const byProduct = new Map<number, Record<string, number>>();
  return ({ method, url, body }) => {
    if (url.pathname === "/health") return json({ status: "Ratings is healthy" });
    const match = /^\/ratings\/(?<id>[^/]*)$/.exec(url.pathname);
    if (!match?.groups) return undefined;
    const id = Number.parseInt(match.groups.id ?? "", 10);
    if (Number.isNaN(id)) return json({ error: "please provide numeric product ID" }, 400);
    if (method === "POST") {
      const ratings = parseRatings(body.toString("utf8"));
      if (!ratings) return json({ error: "please provide valid ratings JSON" }, 400);
      // A demo that anybody may write to must not grow without end.
      if (byProduct.size < 1000) byProduct.set(id, ratings);
    } else if (method !== "GET" && method !== "HEAD") {
      return json({ error: "method not allowed" }, 405);
    }
    return json({ id, ratings: byProduct.get(id) ?? initial });
  };
}

function parseRatings(text: string): Record<string, number> | undefined {
  try {
    const parsed: unknown = JSON.parse(text);
    if (typeof parsed !== "object" || parsed === null || Array.isArray(parsed)) return undefined;
    const entries = Object.entries(parsed).filter((entry): entry is [string, number] => typeof entry[1] === "number");
    return Object.fromEntries(entries);
  } catch {
    return undefined;
  }
}
