// A real OpenID provider for the tests. It listens on loopback, signs with the algorithm and under
// the key name that the environment gives, and says who somebody is by the login name alone.
import { generateKeyPairSync } from 'node:crypto';
import Provider from 'oidc-provider';

const { PORT, ALG, KID, REDIRECT_URI, LOGOUT_URI } = process.env;
const issuer = `http://127.0.0.1:${PORT}`;

const makers = {
  RS256: () => generateKeyPairSync('rsa', { modulusLength: 2048 }),
  RS512: () => generateKeyPairSync('rsa', { modulusLength: 2048 }),
  ES256: () => generateKeyPairSync('ec', { namedCurve: 'P-256' }),
  ES384: () => generateKeyPairSync('ec', { namedCurve: 'P-384' }),
  EdDSA: () => generateKeyPairSync('ed25519'),
};
const key = makers[ALG]().privateKey.export({ format: 'jwk' });

const provider = new Provider(issuer, {
  jwks: { keys: [{ ...key, kid: KID, use: 'sig', alg: ALG }] },
  clients: [{
    client_id: 'certctl',
    client_secret: 'a secret/with:signs+of=every kind',
    redirect_uris: [REDIRECT_URI],
    response_types: ['code'],
    grant_types: ['authorization_code'],
    id_token_signed_response_alg: ALG,
    ...(LOGOUT_URI && {
      backchannel_logout_uri: LOGOUT_URI,
      backchannel_logout_session_required: true,
    }),
  }],
  enabledJWA: { idTokenSigningAlgValues: [ALG] },
  claims: { openid: ['sub', 'groups'], email: ['email', 'email_verified'], profile: ['name'] },
  conformIdTokenClaims: false,
  features: { backchannelLogout: { enabled: true } },
  cookies: { keys: ['a key for tests'] },
  // The receiver of logout tokens is on loopback too, where the default would not call.
  fetch: (url, { dispatcher, ...options }) => globalThis.fetch(url, options),
  findAccount: (ctx, name) => ({
    accountId: name,
    claims: () => ({
      sub: name,
      name: `The person ${name}`,
      email: `${name}@example.test`,
      email_verified: true,
      groups: name.split('-').slice(1),
    }),
  }),
});
provider.on('backchannel.error', (ctx, error) => console.error('back channel:', error.message));
provider.on('server_error', (ctx, error) => console.error('server:', error));
provider.listen(Number(PORT), '127.0.0.1', () => console.log('ready'));
