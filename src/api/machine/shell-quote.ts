/**
 * A value of cluster.env. Istio quotes whatever holds a letter but `w`, since the class that it means to leave bare is written with a
 * backslash too many; scripts that compare files see the same here. Source: Istio pkg/util/shellescape/quote.go.
 */
export function shellQuote(value: string): string {
  return value !== "" && /^[\\w@%+=:,./-]+$/.test(value) ? value : `'${value.replaceAll("'", `'"'"'`)}'`;
}
