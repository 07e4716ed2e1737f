// Swagger UI on Slipway's API document. Who logs in sees the models that are granted to them, each with its own form.
"use strict";
(() => {
  const { client } = document.currentScript.dataset;
  const here = new URL(location.href.split(/[?#]/)[0]);
  let token = null; // in this page only: it is gone with it

  // The document tells more to a caller with a token: it is read anew when one comes or goes.
  const withToken = (next) => (original, { specActions }) => (payload) => {
    const result = original(payload);
    token = next(payload);
    specActions.download();
    return result;
  };
  const login = {
    statePlugins: {
      auth: {
        wrapActions: {
          authorizeOauth2: withToken(({ token }) => token.access_token),
          logout: withToken(() => null),
        },
      },
    },
  };
  const ui = SwaggerUIBundle({
    url: new URL("openapi.json", here).href,
    dom_id: "#page",
    deepLinking: true,
    tryItOutEnabled: true,
    validatorUrl: null,
    oauth2RedirectUrl: `${here.href}/login`,
    presets: [SwaggerUIBundle.presets.apis],
    plugins: [login],
    requestInterceptor: (request) => {
      const ours = new URL(request.url, here).origin === here.origin;
      if (ours && token) request.headers.Authorization = `Bearer ${token}`;
      // Issuers let a page of another origin send only the headers that OAuth has.
      if (!ours) delete request.headers["X-Requested-With"];
      return request;
    },
  });
  ui.initOAuth({
    clientId: client,
    scopes: ["openid", "profile", "email", "groups"],
    usePkceWithAuthorizationCodeGrant: true,
    // The id token that it is for is not used; some issuers want it all the same.
    additionalQueryStringParams: { nonce: crypto.getRandomValues(new Uint32Array(4)).join("") },
  });
})();
