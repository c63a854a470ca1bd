/** Bookinfo's product page: asks details and reviews and shows a book with its stars, as a page and as JSON. */
import {
  call,
  escapeHtml,
  html,
  json,
  type SampleHandler,
  type SampleOptions,
  type SampleRequest,
  type SampleResponse,
} from "../sample.ts";

const product = {
  id: 0,
  title: "The Comedy of Errors",
  descriptionHtml:
    "Two pairs of twins, parted by a shipwreck, meet in one town without knowing it: the shortest of <b>William Shakespeare</b>'s plays, and the one with the most slaps.",
};

export const productpage: SampleHandler = async (request, options) => {
  const { pathname } = request.url;
  switch (pathname) {
    case "/":
    case "/index.html":
      return html(layout("Bookinfo Sample", `<p>A bookshop of four services. <a href="/productpage">See the book</a>.</p>`, ""));
    case "/health":
      return { headers: { "content-type": "text/plain" }, body: "Product page is healthy" };
    case "/productpage":
      return page(request, options);
    case "/login":
      return signIn(request);
    case "/logout":
      return { status: 302, headers: { location: "/productpage", "set-cookie": "user=; Path=/; Max-Age=0" } };
    case "/api/v1/products":
      return json([product]);
    default:
      return api(request, options);
  }
};

async function api(request: SampleRequest, options: SampleOptions): Promise<SampleResponse | undefined> {
  const match = /^\/api\/v1\/products\/(?<id>\d+)(?:\/(?<part>reviews|ratings))?$/.exec(request.url.pathname);
  if (!match?.groups) return undefined;
  const { id, part } = match.groups;
  const [service, path] =
    part === "reviews" ? ["reviews", `/reviews/${id}`] : part === "ratings" ? ["ratings", `/ratings/${id}`] : ["details", `/details/${id}`];
  const answer = await call(`${service}:9080`, path, request, options, userHeader(request));
  if (answer.status !== 200)
    return json({ error: `Sorry, product ${part ?? "details"} are currently unavailable for this book.` }, answer.status);
  return { headers: { "content-type": "application/json" }, body: answer.body };
}

interface Review {
  readonly reviewer: string;
  readonly text: string;
  readonly rating?: { readonly stars?: number; readonly color?: string; readonly error?: string };
}

async function page(request: SampleRequest, options: SampleOptions): Promise<SampleResponse> {
  const user = userHeader(request);
  const [details, reviews] = await Promise.all([
    call("details:9080", "/details/0", request, options, user),
    call("reviews:9080", "/reviews/0", request, options, user),
  ]);
  const body = `
<h1>${escapeHtml(product.title)}</h1>
<p class="summary">${product.descriptionHtml}</p>
<div class="columns">
  <section><h2>Book Details</h2>${details.status === 200 ? detailsTable(details.body) : unavailable("details", details.status)}</section>
  <section><h2>Book Reviews</h2>${reviews.status === 200 ? reviewList(reviews.body) : unavailable("reviews", reviews.status)}</section>
</div>`;
  return html(layout(product.title, body, user["end-user"] ?? ""));
}

function unavailable(what: string, status: number): string {
  return `<p class="error">Sorry, product ${what} are currently unavailable for this book. <small>(${status})</small></p>`;
}

function detailsTable(body: string): string {
  const details = JSON.parse(body) as Record<string, unknown>;
  const rows = Object.entries(details)
    .filter(([key]) => key !== "id")
    .map(([key, value]) => `<tr><th>${escapeHtml(key[0]?.toUpperCase() + key.slice(1))}</th><td>${escapeHtml(String(value))}</td></tr>`);
  return `<table>${rows.join("")}</table>`;
}

function reviewList(body: string): string {
  const { reviews, podname } = JSON.parse(body) as { reviews: Review[]; podname: string };
  const items = reviews.map(
    ({ reviewer, text, rating }) =>
      `<blockquote><p>${escapeHtml(text)}</p><footer>${escapeHtml(reviewer)}</footer>${stars(rating)}</blockquote>`,
  );
  return `${items.join("")}<p class="served">Reviews served by: <b>${escapeHtml(podname)}</b></p>`;
}

function stars(rating: Review["rating"]): string {
  if (!rating) return "";
  if (rating.error) return `<p class="error">${escapeHtml(rating.error)}</p>`;
  const count = Math.min(5, Math.max(0, rating.stars ?? 0));
  return `<p class="stars" style="color:${rating.color === "red" ? "#c0262d" : "#222"}" title="${count} of 5">${"★".repeat(count)}${"☆".repeat(5 - count)}</p>`;
}

/** Signing in is no security here: it sets the header by which routes can tell users apart. */
function signIn(request: SampleRequest): SampleResponse {
  const name = new URLSearchParams(request.body.toString("utf8")).get("username") ?? "";
  const cookie = `user=${encodeURIComponent(name.slice(0, 64))}; Path=/; HttpOnly; SameSite=Lax`;
  return { status: 302, headers: { location: "/productpage", "set-cookie": cookie } };
}

function userHeader(request: SampleRequest): Record<string, string> {
  const encoded = /(?:^|;\s*)user=(?<user>[^;]+)/.exec(request.headers.cookie ?? "")?.groups?.user;
  if (!encoded) return {};
  let user: string;
  try {
    user = decodeURIComponent(encoded);
  } catch {
    return {};
  }
  return /^[\x20-\x7e]+$/.test(user) ? { "end-user": user } : {};
}

function layout(title: string, body: string, user: string): string {
  const account = user
    ? `<form action="/logout"><span>${escapeHtml(user)}</span> <button>Sign out</button></form>`
    : `<form action="/login" method="post"><input name="username" placeholder="User name" aria-label="User name"> <button>Sign in</button></form>`;
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>${escapeHtml(title)}</title>
<style>
body{font:16px/1.5 system-ui,sans-serif;margin:0;color:#1d2733;background:#f6f7f9}
header{display:flex;justify-content:space-between;align-items:center;background:#17324d;color:#fff;padding:.8rem 1.5rem}
header a{color:#fff;text-decoration:none;font-weight:600}
main{max-width:60rem;margin:1.5rem auto;padding:0 1.5rem}
.summary{color:#4a5766}
.columns{display:grid;grid-template-columns:1fr 1.4fr;gap:1.5rem}
section{background:#fff;border:1px solid #dfe4ea;border-radius:8px;padding:1rem 1.3rem}
@media(max-width:44rem){.columns{grid-template-columns:1fr}}
h2{margin:.2rem 0 .8rem;font-size:1.15rem}
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.3rem .5rem;border-top:1px solid #edf0f3}th{font-weight:600;width:40%}
blockquote{margin:0 0 1rem;padding-left:1rem;border-left:3px solid #c9d3de}blockquote p{margin:0}footer{color:#67758a}footer::before{content:"— "}
.stars{font-size:1.5rem;letter-spacing:.1em}.served{color:#67758a;font-size:.9rem}.error{color:#a4262c}
input,button{font:inherit;padding:.2rem .6rem;border-radius:5px;border:1px solid #9fb0c3}
</style></head><body><header><a href="/">Bookinfo Sample</a>${account}</header><main>${body}</main></body></html>`;
}
