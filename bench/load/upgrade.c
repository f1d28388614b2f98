/* The opening handshake, by the letter of RFC 6455, section 4.1. */
#include "load.h"

#include <openssl/evp.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define GUID "258EAFA5-E914-47DA-95CA-C5AB0DC85B11" /* section 1.3 */
/* Without context between messages, so that each can be written, and checked, by itself. */
#define OFFER "permessage-deflate; server_no_context_takeover; client_no_context_takeover"

void send_request(struct connection *c) {
    uint8_t nonce[16];
    char text[1024];
    fill_random(nonce, sizeof nonce);
    EVP_EncodeBlock((uint8_t *)c->key, nonce, sizeof nonce);
    int size = snprintf(text, sizeof text,
                        "GET %s HTTP/1.1\r\nHost: %s:%d\r\nUpgrade: websocket\r\n"
                        "Connection: Upgrade\r\nSec-WebSocket-Key: %s\r\n"
                        "Sec-WebSocket-Version: 13\r\n%s\r\n",
                        options.path, options.host, options.port, c->key,
                        options.compress ? "Sec-WebSocket-Extensions: " OFFER "\r\n" : "");
    c->state = UPGRADING;
    c->response = malloc(MAX_HEAD + 1);
    if (size >= (int)sizeof text || !c->response) die("the request does not fit");
    queue(c, text, (size_t)size);
    flush(c);
}

/* Says what is wrong with an answer, or NULL. */
static const char *check_response(struct connection *c, char *head) {
    char joined[64], expected[32];
    uint8_t digest[SHA_DIGEST_LENGTH];
    snprintf(joined, sizeof joined, "%s%s", c->key, GUID);
    SHA1((uint8_t *)joined, strlen(joined), digest);
    EVP_EncodeBlock((uint8_t *)expected, digest, sizeof digest);
    int upgrades = 0, upgraded = 0, accepted = 0, compresses = 0;
    char *line = strstr(head, "\r\n");
    if (strncmp(head, "HTTP/1.1 101 ", 13) != 0) return "the status is not 101";
    while ((line += 2)[0] != '\r') {
        char *line_end = strstr(line, "\r\n"), *value = memchr(line, ':', (size_t)(line_end - line));
        if (!value || value == line) return "a header line has no name";
        *value++ = *line_end = '\0';
        value += strspn(value, " \t");
        for (char *p = line_end; p > value && strchr(" \t", p[-1]);) *--p = '\0';
        if (strpbrk(line, " \t\r\n")) return "a header name has a blank in it";
        if (!strcasecmp(line, "Upgrade")) upgrades += strcasecmp(value, "websocket") ? 9 : 1;
        if (!strcasecmp(line, "Connection")) upgraded += strcasecmp(value, "upgrade") ? 9 : 1;
        if (!strcasecmp(line, "Sec-WebSocket-Accept")) accepted += strcmp(value, expected) ? 9 : 1;
        if (!strcasecmp(line, "Sec-WebSocket-Extensions")) {
            if (!options.compress) return "it chose an extension";
            bool is_known = !strncmp(value, "permessage-deflate", 18);
            compresses += is_known && strstr(value, "server_no_context_takeover") ? 1 : 9;
        }
        if (!strcasecmp(line, "Sec-WebSocket-Protocol")) return "it chose a subprotocol";
        if (!strcasecmp(line, "Content-Length")) return "a 101 has no body";
        if (!strcasecmp(line, "Transfer-Encoding")) return "a 101 has no body";
        line = line_end;
    }
    if (upgrades != 1) return "not exactly one Upgrade: websocket";
    if (upgraded != 1) return "not exactly one Connection: Upgrade";
    if (compresses != options.compress) return "it does not compress without context";
    return accepted == 1 ? NULL : "not exactly one right Sec-WebSocket-Accept";
}

/* Returns how many of these bytes were the head's, once it has ended; the state tells. */
size_t read_response(struct connection *c, const uint8_t *bytes, size_t size) {
    size_t before = c->response_size, room = MAX_HEAD - before;
    size_t taken = size < room ? size : room;
    memcpy(c->response + before, bytes, taken);
    c->response_size += taken;
    c->response[c->response_size] = '\0';
    char *blank = strstr(c->response, "\r\n\r\n");
    if (!blank) {
        if (c->response_size == MAX_HEAD) fail(c, "the response head has no end");
        return size;
    }
    size_t used = (size_t)(blank + 4 - c->response) - before;
    char status[64];
    snprintf(status, sizeof status, "%.*s", (int)strcspn(c->response, "\r\n"), c->response);
    const char *problem = check_response(c, c->response);
    if (problem) {
        fail(c, "handshake: %s (%s)", problem, status);
        return size;
    }
    c->response_size = 0;
    c->state = GREETING;
    return used;
}
