/**
 * envoy.path.match.uri_template: paths by a template.
 *
 *      /a/*          one segment, not empty          /{x}     the same, named (a rewrite could use it)
 *      /a/**         any number of characters        /{x=b/*} a pattern with a name
 *      /*.js /**.js  with an ending                  /a{x}b   within a segment
 *
 * At most one `**`, and no `*` after it, so a match takes linear time and JavaScript's own expressions are safe here.
 * One thing is refused that Envoy takes: a `*` amid other characters (`/a*b`), which it hands unescaped to its regex engine,
 * so that it means "any number of a".
 */
import { fromBinary } from "@bufbuild/protobuf";
import { ConfigError } from "../../api/config-error.ts";
import type { TypedExtensionConfig } from "../../api/gen/envoy/config/core/v3/extension_pb.js";
import { UriTemplateMatchConfigSchema } from "../../api/gen/envoy/extensions/path/match/uri_template/v3/uri_template_match_pb.js";

/** RFC 3986's characters of a path segment. */
const characters = "A-Za-z0-9\\-._~%!$&'()+,;*=:@";
const maxVariables = 5;
const maxNameLength = 16;

/** An extension of the category envoy.path.match. `path` may have a query, which doesn't count. */
export function compilePathTemplateExtension(extension: TypedExtensionConfig): (path: string) => boolean {
  const any = extension.typedConfig;
  const typeName = any?.typeUrl.slice(any.typeUrl.lastIndexOf("/") + 1) ?? "";
  if (any === undefined || typeName !== UriTemplateMatchConfigSchema.typeName) {
    throw new ConfigError(`Didn't find a registered implementation for '${extension.name}' with type URL: '${typeName}'`);
  }
  const pattern = compileUriTemplate(fromBinary(UriTemplateMatchConfigSchema, any.value).pathTemplate);
  return (path) => pattern.test(path);
}

/** Throws ConfigError where the template is none. The expression has the variables as named groups, and lets a query follow. */
export function compileUriTemplate(template: string): RegExp {
  const parser = new TemplateParser(template);
  return new RegExp(`^${parser.parse()}(?:[?#]|$)`);
}

class TemplateParser {
  readonly #template: string;
  readonly #names = new Set<string>();
  #at = 0;
  #sawTextGlob = false;

  constructor(template: string) {
    this.#template = template;
  }

  parse(): string {
    let pattern = "";
    while (this.#at < this.#template.length) {
      if (this.#template[this.#at++] !== "/") throw this.#error("a path begins with '/'");
      pattern += "/";
      const isLast = this.#at === this.#template.length;
      if (!isLast) pattern += this.#segment();
    }
    return pattern;
  }

  #segment(): string {
    if (this.#template[this.#at] === "*") {
      const glob = this.#operator(this.#rest());
      const ending = this.#rest();
      if (ending === "" || ending.startsWith("/")) return glob;
      if (ending.includes("/")) throw this.#error("nothing can follow a segment that has an ending behind '*'");
      return glob + this.#literal(ending);
    }
    const end = this.#template.indexOf("/", this.#at);
    // A variable's own pattern may contain slashes.
    const brace = this.#template.indexOf("{", this.#at);
    if (brace < 0 || (end >= 0 && end < brace)) return this.#literal(this.#upToSlash());
    const before = brace === this.#at ? "" : this.#literal(this.#template.slice(this.#at, brace));
    const variable = this.#variable();
    const after = this.#upToSlash();
    return before + variable + (after === "" ? "" : this.#literal(after));
  }

  #rest(): string {
    return this.#template.slice(this.#at);
  }

  #upToSlash(): string {
    const end = this.#template.indexOf("/", this.#at);
    return this.#template.slice(this.#at, end < 0 ? undefined : end);
  }

  #variable(): string {
    const end = this.#template.indexOf("}", this.#at);
    if (end < 0) throw this.#error("'{' has no '}'");
    const text = this.#template.slice(this.#at + 1, end);
    const equals = text.indexOf("=");
    const name = equals < 0 ? text : text.slice(0, equals);
    if (!/^[A-Za-z]\w*$/.test(name) || name.length > maxNameLength) {
      throw this.#error(`'${name}' can't be the name of a variable: a letter, then at most ${maxNameLength - 1} letters, digits or '_'`);
    }
    if (this.#names.has(name)) throw this.#error(`the variable '${name}' stands there twice`);
    this.#names.add(name);
    if (this.#names.size > maxVariables) throw this.#error(`more than ${maxVariables} variables`);
    const pattern = equals < 0 ? "*" : text.slice(equals + 1);
    const parts = pattern.split("/").map((part) => (part === "*" || part === "**" ? this.#glob(part) : this.#checked(part)));
    this.#at = end + 1;
    return `(?<${name}>${parts.join("/")})`;
  }

  /** Consumes `**` or `*`. */
  #operator(text: string): string {
    const operator = text.startsWith("**") ? "**" : "*";
    this.#at += operator.length;
    return this.#glob(operator);
  }

  #glob(operator: "*" | "**"): string {
    if (this.#sawTextGlob) throw this.#error("nothing but fixed text can follow '**'");
    if (operator === "*") return `[${characters}]+`;
    this.#sawTextGlob = true;
    return `[${characters}/]*`;
  }

  #literal(text: string): string {
    this.#at += text.length;
    return this.#checked(text);
  }

  #checked(text: string): string {
    if (text === "") throw this.#error("a segment is empty");
    if (text.includes("*")) throw this.#error("'*' amid other characters is not supported by this proxy");
    if (!new RegExp(`^[${characters}]+$`).test(text)) throw this.#error(`'${text}' has characters that no path segment has`);
    return text.replace(/[-.$()+]/g, "\\$&");
  }

  #error(reason: string): ConfigError {
    return new ConfigError(`UriTemplateMatchConfig: path_template '${this.#template}' is invalid: ${reason}`);
  }
}
