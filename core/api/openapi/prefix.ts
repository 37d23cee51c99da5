/** Before every path of a route. */
export const API_PREFIX = "/api/v1";
