/** The services of the sample mesh, by the application that they belong to. */
import { details } from "./bookinfo/details.ts";
import { productpage } from "./bookinfo/productpage.ts";
import { ratingsService } from "./bookinfo/ratings.ts";
import { reviews } from "./bookinfo/reviews.ts";
import { customersService } from "./customers.ts";
import { httpbin } from "./httpbin.ts";
import type { SampleHandler } from "./sample.ts";
import { webFrontend } from "./web-frontend.ts";

export interface SampleService {
  readonly versions: readonly [string, ...string[]];
  /** A handler with a state of its own for each server. */
  readonly create: () => SampleHandler;
}

export const samples: Readonly<Record<string, Readonly<Record<string, SampleService>>>> = {
  bookinfo: {
    productpage: { versions: ["v1"], create: () => productpage },
    details: { versions: ["v1"], create: () => details },
    reviews: { versions: ["v1", "v2", "v3"], create: () => reviews },
    ratings: { versions: ["v1"], create: ratingsService },
  },
  customers: { customers: { versions: ["v1", "v2"], create: () => customersService } },
  httpbin: { httpbin: { versions: ["v1"], create: () => httpbin } },
  "web-frontend": { "web-frontend": { versions: ["v1"], create: () => webFrontend } },
};
