/** What the proxy says it is: the Envoy version whose configuration and behaviour it has, and whose build it really is. */
import { create } from "@bufbuild/protobuf";
import { type BuildVersion, BuildVersionSchema } from "../api/gen/envoy/config/core/v3/base_pb.js";
import { revision, version } from "../lib/version.ts";

const major = 1;
const minor = 40;

/** `<revision>/1.40.0/Clean/RELEASE/OpenSSL`: five parts, as tools that parse Envoy's expect. */
export const buildVersion = `${revision}/${major}.${minor}.0/Clean/RELEASE/OpenSSL`;

export function nodeVersion(): BuildVersion {
  return create(BuildVersionSchema, {
    version: { majorNumber: major, minorNumber: minor },
    metadata: {
      "ssl.version": "OpenSSL",
      "revision.sha": revision,
      "build.type": "RELEASE",
      "revision.status": "Clean",
      "topsail.version": version,
    },
  });
}
