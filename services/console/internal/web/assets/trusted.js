// htmx alone may make HTML of texts, all of which come from this console; and nobody may make code of them.
htmx.registerExtension('trusted', {
  init: (api) => {
    const refuse = () => { throw new Error('no code is made of texts'); };
    const policy = window.trustedTypes ? trustedTypes.createPolicy('htmx', { createHTML: (s) => s }) : { createHTML: (s) => s };
    api.initSecurity({ createHTML: (s) => policy.createHTML(s), createScript: refuse }, refuse, refuse);
  },
});
