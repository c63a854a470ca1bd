/** A list of customers: v1 gives names, v2 adds where they live. */
import { json, type SampleHandler } from "./sample.ts";

const customers = [
  { name: "Ada Lindqvist", city: "Uppsala" },
  { name: "Benedikt Oyelaran", city: "Ibadan" },
  { name: "Chiara Moretti", city: "Bergamo" },
  { name: "Dmitri Halonen", city: "Tampere" },
  { name: "Estelle Nakamura", city: "Sapporo" },
];

export const customersService: SampleHandler = ({ url }, { version }) => {
  if (url.pathname !== "/") return undefined;
  return json(version === "v1" ? customers.map(({ name }) => ({ name })) : customers);
};
