/** A page that shows what the customers service says: names alone, or names with cities, by whichever version answered. */
import { call, escapeHtml, html, type SampleHandler } from "./sample.ts";

export const webFrontend: SampleHandler = async (request, options) => {
  if (request.url.pathname !== "/") return undefined;
  const answer = await call("customers.default.svc.cluster.local", "/", request, options);
  if (answer.error) return html(document(`<p>The customers service did not answer: ${escapeHtml(answer.error)}.</p>`), 502);
  if (answer.status !== 200) return html(document(`<p>The customers service answered with ${answer.status}.</p>`), 502);
  const customers = JSON.parse(answer.body) as Record<string, string>[];
  const columns = Object.keys(customers[0] ?? { name: "" });
  const head = columns.map((column) => `<th>${escapeHtml(column.toUpperCase())}</th>`).join("");
  const rows = customers.map(
    (customer) => `<tr>${columns.map((column) => `<td>${escapeHtml(customer[column] ?? "")}</td>`).join("")}</tr>`,
  );
  return html(document(`<table><thead><tr>${head}</tr></thead><tbody>${rows.join("")}</tbody></table>`));
};

function document(body: string): string {
  return `<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Customers</title><style>
body{font:16px/1.5 system-ui,sans-serif;max-width:40rem;margin:2rem auto;padding:0 1rem}table{border-collapse:collapse;width:100%}
th,td{text-align:left;padding:.4rem .8rem;border-bottom:1px solid #dfe4ea}</style></head><body><h1>Customers</h1>${body}</body></html>`;
}
