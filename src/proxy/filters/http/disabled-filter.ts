/** Stands for `disabled: true` in per-route configuration (envoy.config.route.v3.FilterConfig). */
export const disabledFilter = Symbol("disabled filter");
