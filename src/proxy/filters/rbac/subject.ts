/** Who wants what: what the conditions of a policy look at. An HttpStream is one; a network filter makes one per connection. */
import type { DownstreamConnection } from "../../listener/downstream-connection.ts";
import type { Route } from "../../router/route.ts";
import type { StreamInfo } from "../../stream-info.ts";

export interface Subject {
  readonly connection: DownstreamConnection;
  /** Of the request, or of the connection where no request is known. */
  readonly info: StreamInfo;
  readonly route: Route | null;
}
