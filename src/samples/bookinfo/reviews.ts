/** Bookinfo's reviews: v1 without stars, v2 with black ones, v3 with red ones, which it asks of ratings. */
import { call, json, type SampleHandler, type SampleOptions, type SampleRequest } from "../sample.ts";

const texts = [
  { reviewer: "Reviewer1", text: "Two pairs of twins, one bad day in Ephesus, and not a dull page. I laughed aloud on the bus." },
  { reviewer: "Reviewer2", text: "A play of mistakes that gets everything right; only the ending comes too soon." },
];

const starColors: Record<string, string> = { v2: "black", v3: "red" };

export const reviews: SampleHandler = async (request, options) => {
  if (request.url.pathname === "/health") return json({ status: "Reviews is healthy" });
  const match = /^\/reviews\/(?<id>\d+)$/.exec(request.url.pathname);
  if (!match?.groups?.id) return undefined;
  const id = match.groups.id;
  const ratings = await starsOf(id, request, options);
  return json({
    id,
    podname: options.workload,
    clustername: "null",
    reviews: texts.map(({ reviewer, text }) => ({ reviewer, text, ...(ratings ? { rating: ratings(reviewer) } : {}) })),
  });
};

/** Undefined for v1, which has no stars. */
async function starsOf(id: string, request: SampleRequest, options: SampleOptions): Promise<((reviewer: string) => object) | undefined> {
  const color = starColors[options.version];
  if (!color) return undefined;
  const answer = await call("ratings:9080", `/ratings/${id}`, request, options);
  if (answer.status !== 200) return () => ({ error: "Ratings service is currently unavailable" });
  const { ratings } = JSON.parse(answer.body) as { ratings: Record<string, number> };
  return (reviewer) => ({ stars: ratings[reviewer] ?? 0, color });
}
