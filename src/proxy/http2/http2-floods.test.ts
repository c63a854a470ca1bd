import { expect, it } from "vitest";
import { Http2Floods } from "./http2-floods.ts";

it("remembers as many streams that were reset as a client may have had open at once", () => {
  const floods = new Http2Floods(1000);
  for (let stream = 1; stream <= 2001; stream += 2) floods.resetByUs(stream);
  expect([floods.wasResetByUs(1), floods.wasResetByUs(3), floods.wasResetByUs(2001)]).toEqual([false, true, true]);
});
