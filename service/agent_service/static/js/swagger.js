/* Swagger UI over this service's own OpenAPI document. Its address is relative, as a gateway may serve the service under a path. */

globalThis.SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  filter: true,
  validatorUrl: null, // which would send the document's address to a server of Swagger's
  persistAuthorization: false,
});
