/** Bookinfo's details: what is printed on the imprint of a book. */
import { json, type SampleHandler } from "../sample.ts";

export const details: SampleHandler = ({ url }) => {
  if (url.pathname === "/health") return json({ status: "Details is healthy" });
  const match = /^\/details\/(?<id>[^/]*)$/.exec(url.pathname);
  if (!match?.groups) return undefined;
  const id = Number(match.groups.id);
  if (!Number.isInteger(id) || match.groups.id === "") return json({ error: "please provide numeric product id" }, 400);
  return json({
    id,
    author: "William Shakespeare",
    year: 1595,
    type: "paperback",
    pages: 200,
    publisher: "PublisherA",
    language: "English",
    "ISBN-10": "1234567890",
    "ISBN-13": "123-1234567890",
  });
};
