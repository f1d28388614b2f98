/* The life of a connection: connect, TLS, upgrade, messages, close. */
#include "load.h"

#include <errno.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define ADDRESSES 200 /* of 127.0.0.0/8: the ports of one run out */

static uint8_t input[1 << 18];

void end(struct connection *c) {
    if (c->state == CLOSED) return;
    if (c->state < OPEN) opening--;
    c->state = CLOSED;
    closed++;
    /* Without its goodbye, OpenSSL would not resume the session. */
    if (c->ssl && SSL_is_init_finished(c->ssl)) SSL_shutdown(c->ssl);
    SSL_free(c->ssl);
    c->ssl = NULL;
    ERR_clear_error(); /* or the next connection's SSL_get_error would read this one's */
    close(c->fd);
    free(c->response), free(c->out), free(c->packed), free(c->sent_at);
    c->response = NULL, c->out = NULL, c->packed = NULL, c->sent_at = NULL;
}

void fail(struct connection *c, const char *format, ...) {
    if (c->state == CLOSED) return;
    if (options.storm && c->state < OPEN) {
        end(c);
        c->state = UNUSED;
        closed--, started--;
        return;
    }
    va_list arguments;
    va_start(arguments, format);
    if (errors++ < 5) {
        fprintf(stderr, "load: connection %td: ", c - connections);
        vfprintf(stderr, format, arguments);
        fputs("\n", stderr);
    }
    va_end(arguments);
    end(c);
}

static void watch(struct connection *c, int operation) {
    uint32_t interest = EPOLLIN;
    if (c->state == CONNECTING || c->wants_write || c->out_done < c->out_size) interest |= EPOLLOUT;
    if (operation == EPOLL_CTL_MOD && interest == c->interest) return;
    c->interest = interest;
    struct epoll_event event = {.events = interest, .data.ptr = c};
    if (epoll_ctl(poller, operation, c->fd, &event) < 0) die("epoll_ctl: %s", strerror(errno));
}

void queue(struct connection *c, const void *bytes, size_t size) {
    if (c->out_size + size > c->out_capacity) {
        c->out_capacity = (c->out_size + size) * 2;
        c->out = realloc(c->out, c->out_capacity);
        if (!c->out) die("no memory for what waits to be sent");
    }
    memcpy(c->out + c->out_size, bytes, size);
    c->out_size += size;
}

void flush(struct connection *c) {
    while (c->state != CLOSED && c->out_done < c->out_size) {
        const uint8_t *bytes = c->out + c->out_done;
        size_t size = c->out_size - c->out_done;
        ssize_t n;
        if (c->ssl) {
            n = SSL_write(c->ssl, bytes, size < INT32_MAX ? (int)size : INT32_MAX);
            if (n <= 0) {
                int error = SSL_get_error(c->ssl, (int)n);
                if (error == SSL_ERROR_WANT_WRITE || error == SSL_ERROR_WANT_READ) break;
                fail(c, "TLS write: error %d", error);
            }
        } else {
            n = send(c->fd, bytes, size, MSG_NOSIGNAL);
            if (n < 0 && errno == EAGAIN) break;
            if (n < 0) fail(c, "write: %s", strerror(errno));
        }
        if (n > 0) c->out_done += (size_t)n;
    }
    if (c->state == CLOSED) return;
    if (c->out_done == c->out_size) c->out_done = c->out_size = 0;
    watch(c, EPOLL_CTL_MOD);
}

void send_message(struct connection *c, int64_t at) {
    size_t size;
    const uint8_t *frame = frame_at(c->offset + c->sent, &size);
    queue(c, frame, size);
    c->sent_at[c->sent % (uint64_t)options.depth] = at;
    c->sent++;
}

void send_control(struct connection *c, enum opcode opcode, const void *bytes, size_t size) {
    uint8_t frame[6 + 125], mask[4];
    fill_random(mask, 4);
    size_t at = write_head(frame, 0x80 | opcode, size, mask);
    for (size_t i = 0; i < size; i++) frame[at + i] = ((const uint8_t *)bytes)[i] ^ mask[i & 3];
    queue(c, frame, at + size);
}

void send_close(struct connection *c) {
    static const uint8_t normal[2] = {1000 >> 8, 1000 & 255};
    c->state = CLOSING;
    send_control(c, CLOSE, normal, sizeof normal);
}

/* Begin, or begin again in the place of one that has ended. */
void start(struct connection *c) {
    *c = (struct connection){.state = CONNECTING, .offset = (uint64_t)rand()};
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0) die("socket: %s (raise `ulimit -n`)", strerror(errno));
    int one = 1;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (ntohl(options.address.sin_addr.s_addr) >> 24 == IN_LOOPBACKNET) {
        static unsigned count;
        struct sockaddr_in from = {.sin_family = AF_INET};
        from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + count++ % ADDRESSES);
        setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
        if (bind(c->fd, (struct sockaddr *)&from, sizeof from)) die("bind: %s", strerror(errno));
    }
    struct sockaddr *address = (struct sockaddr *)&options.address;
    started++, opening++;
    c->started_at = now();
    c->sent_at = calloc((size_t)options.depth, sizeof *c->sent_at);
    if (connect(c->fd, address, sizeof options.address) < 0 && errno != EINPROGRESS)
        fail(c, "connect: %s", strerror(errno));
    else
        watch(c, EPOLL_CTL_ADD);
}

void note_open(struct connection *c, int64_t at) {
    free(c->response);
    c->response = NULL;
    c->state = OPEN;
    opened++, opening--;
    if (c->ssl && measuring && SSL_session_reused(c->ssl)) resumptions++;
    if (!options.handshakes) return;
    if (measuring) messages++, note_latency(at - c->started_at);
    send_close(c);
}

static void read_some(struct connection *c, const uint8_t *bytes, size_t size, int64_t at) {
    if (c->state == UPGRADING) {
        size_t used = read_response(c, bytes, size);
        bytes += used, size -= used;
        if (c->state == GREETING && !options.socketio) note_open(c, at);
    }
    if (size) read_frames(c, bytes, size, at);
}

static void receive(struct connection *c) {
    do {
        ssize_t n;
        if (c->ssl) {
            n = SSL_read(c->ssl, input, sizeof input);
            if (n <= 0) {
                int error = SSL_get_error(c->ssl, (int)n);
                if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE) return;
                n = 0;
            }
        } else {
            n = recv(c->fd, input, sizeof input, 0);
            if (n < 0 && errno == EAGAIN) return;
        }
        if (n <= 0) {
            if (c->state == CLOSING) end(c);
            fail(c, "the connection ended%s", c->state == UPGRADING ? " in the handshake" : "");
            return;
        }
        read_some(c, input, (size_t)n, now());
    } while (c->state != CLOSED && c->ssl && SSL_has_pending(c->ssl));
}

/* The last session that a server gave, for all connections: tickets may be used again. */
static SSL_SESSION *session;

static int keep_session(SSL *ssl, SSL_SESSION *given) {
    (void)ssl;
    SSL_SESSION_free(session);
    session = given;
    return 1;
}

bool has_session(void) { return session; }

static void begin_tls(struct connection *c) {
    c->ssl = SSL_new(tls);
    if (!c->ssl || !SSL_set_fd(c->ssl, c->fd)) die("OpenSSL: no connection object");
    SSL_set_connect_state(c->ssl);
    if (!options.resume) return;
    SSL_CTX_sess_set_new_cb(tls, keep_session);
    if (session) SSL_set_session(c->ssl, session);
}

static void shake_hands(struct connection *c) {
    if (!c->ssl) begin_tls(c);
    c->state = TLS;
    ERR_clear_error();
    int result = SSL_do_handshake(c->ssl), error = SSL_get_error(c->ssl, result);
    c->wants_write = error == SSL_ERROR_WANT_WRITE;
    if (result == 1)
        send_request(c);
    else if (error == SSL_ERROR_WANT_READ || c->wants_write)
        watch(c, EPOLL_CTL_MOD);
    else
        fail(c, "TLS handshake: %s", ERR_reason_error_string(ERR_peek_last_error()));
}

void handle(struct connection *c, uint32_t events) {
    if (c->state == CONNECTING) {
        int error = 0;
        socklen_t size = sizeof error;
        getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size);
        if (error) {
            fail(c, "connect: %s", strerror(error));
        } else if (options.tls) {
            shake_hands(c);
        } else {
            send_request(c);
        }
    } else if (c->state == TLS) {
        shake_hands(c);
    } else if (c->state != CLOSED) {
        if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) receive(c);
        if (c->state != CLOSED && (c->out_size || events & EPOLLOUT)) flush(c);
    }
}
