/** Set by esbuild in a release build; from source they are unset. */
export const version = process.env.TOPSAIL_BUILD_VERSION ?? "0.0.0-source";
export const revision = process.env.TOPSAIL_BUILD_REVISION ?? "unknown";
