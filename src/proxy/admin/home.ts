/** The entry page and the list of paths. */
import type { AdminHandler } from "./admin-handler.ts";

export function helpText(handlers: readonly AdminHandler[]): string {
  let out = "admin commands are:\n";
  for (const { path, help: text, mutates, params } of handlers) {
    out += `  ${path}${mutates ? " (POST)" : ""}: ${text}\n`;
    for (const [name, about] of params ?? []) out += `      ${name}: ${about}\n`;
  }
  return out;
}

export const help: AdminHandler = {
  path: "/help",
  help: "print out list of admin commands",
  handle: (_server, { handlers }) => ({ body: helpText(handlers) }),
};

export const home: AdminHandler = {
  path: "/",
  help: "Admin home page",
  handle(_server, { handlers }) {
    const rows = handlers.map(({ path, help: text, mutates }) => {
      const name = escapeHtml(path.slice(1) || "home");
      const link = mutates
        ? `<form action="${escapeHtml(path.slice(1))}" method="post"><button>${name}</button></form>`
        : `<a href="${escapeHtml(path.slice(1))}">${name}</a>`;
      return `<tr><td>${link}</td><td>${escapeHtml(text)}</td></tr>`;
    });
    const style = "body{font-family:sans-serif}td{padding:4px;text-align:left}form{margin:0}";
    return {
      type: "html",
      body: `<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>Envoy Admin</title><style>${style}</style></head>\n<body><table>\n<tr><th>Command</th><th>Description</th></tr>\n${rows.join("\n")}\n</table></body></html>\n`,
    };
  },
};

export function escapeHtml(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");
}
