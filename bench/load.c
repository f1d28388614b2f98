/*
 * load: many WebSocket clients in one thread, faster than any server in Python.
 *
 * Every connection keeps DEPTH messages under way (or all share a fixed RATE), every message
 * differs from its neighbours in payload and mask, and every byte of every echo is compared.
 * The answer is one line of JSON on standard output. Built by build.py, used by echo.py and
 * memory.py; `load --help` lists the options.
 *
 * Closed loop (no --rate): latency is from the write to the echo. Fixed rate: from the moment
 * at which the message was due, so that a stalled server cannot hide behind a stalled client.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <openssl/ssl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define GUID "258EAFA5-E914-47DA-95CA-C5AB0DC85B11" /* RFC 6455, section 1.3 */
#define SECOND INT64_C(1000000000)
#define MAX_HEAD 16384       /* bytes of a response head */
#define MAX_OPENING 64       /* handshakes at once: under every server's listen backlog */
#define RING_BYTES (8 << 20) /* of payloads: small rings stay in the cache */
#define MAX_RING 4096        /* messages after which a connection repeats itself */
#define OPEN_TIMEOUT 60      /* seconds for all handshakes together */
#define DRAIN_TIMEOUT 3      /* seconds for the echoes still under way, and for the closing */

enum opcode { CONTINUATION = 0, TEXT = 1, BINARY = 2, CLOSE = 8, PING = 9, PONG = 10 };
enum state { CONNECTING, TLS, UPGRADING, OPEN, CLOSING, CLOSED };

struct connection {
    enum state state;
    int fd;
    SSL *ssl;
    bool wants_write; /* TLS asked for it during its handshake */
    uint32_t interest;
    char key[25];
    char *response; /* the response head so far; freed when open */
    size_t response_size;
    /* the frame being read */
    uint8_t head[10];
    size_t head_size;
    bool in_frame;
    uint64_t frame_left;
    uint8_t control[125];
    size_t control_size;
    /* the message being read */
    bool in_message;
    uint64_t message_size;
    uint64_t received, sent; /* messages; also the places in the ring, from `offset` */
    uint64_t offset;
    int64_t *sent_at; /* by message, modulo depth */
    uint8_t *out;
    size_t out_size, out_done, out_capacity;
};

static struct {
    struct sockaddr_in address;
    const char *host, *path;
    int port, connections, depth, core, watch;
    size_t size;
    double duration, warm_up, rate;
    bool tls, binary, idle, touch;
} options = {.host = "127.0.0.1", .path = "/", .connections = 1, .depth = 1, .core = -1,
             .size = 64, .duration = 3, .warm_up = 1};

static struct connection *connections;
static SSL_CTX *tls;
static int poller, timer;
static uint8_t *payloads, *frames; /* the ring: what to expect, and what to write for it */
static size_t ring, frame_size;
static uint8_t input[1 << 18];
static bool refilling, measuring;
static int opened, opening, started, closed;
static uint64_t messages, errors, histogram[8192];
static int64_t waited, largest;

static int64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * SECOND + t.tv_nsec;
}

static void die(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("load: ", stderr);
    vfprintf(stderr, format, arguments);
    fputs("\n", stderr);
    va_end(arguments);
    exit(1);
}

/* A histogram whose buckets are under 1 % wide, as HdrHistogram's. */

static size_t bucket(int64_t nanoseconds) {
    uint64_t value = nanoseconds < 0 ? 0 : (uint64_t)nanoseconds;
    if (value < 256) return value;
    int shift = 63 - __builtin_clzll(value) - 7;
    return 256 + (size_t)(shift - 1) * 128 + (value >> shift) - 128;
}

static double microseconds_at(double quantile) {
    uint64_t rank = (uint64_t)(quantile * (double)messages), seen = 0;
    for (size_t i = 0; i < sizeof histogram / sizeof *histogram; i++) {
        seen += histogram[i];
        if (histogram[i] && seen > rank) {
            if (i < 256) return (double)i / 1e3;
            int shift = (int)((i - 256) / 128) + 1;
            return ((double)((i - 256) % 128 + 128) + 0.5) * (double)(UINT64_C(1) << shift) / 1e3;
        }
    }
    return (double)largest / 1e3;
}

/* Messages: a ring of random payloads and of the masked frames that carry them. */

static void fill_random(uint8_t *bytes, size_t size) {
    while (size > 0) {
        ssize_t n = getrandom(bytes, size < 256 ? size : 256, 0);
        if (n < 0) die("getrandom: %s", strerror(errno));
        bytes += n, size -= (size_t)n;
    }
}

static size_t write_head(uint8_t *to, uint8_t first, uint64_t size, const uint8_t mask[4]) {
    size_t at = 0;
    to[at++] = first;
    int wide = size < 126 ? 0 : size < 65536 ? 2 : 8;
    to[at++] = 0x80 | (uint8_t)(wide == 0 ? size : wide == 2 ? 126 : 127);
    for (int i = wide - 1; i >= 0; i--) to[at++] = (uint8_t)(size >> (8 * i));
    memcpy(to + at, mask, 4);
    return at + 4;
}

static void make_messages(void) {
    uint8_t mask[4];
    size_t size = options.size;
    for (ring = 8; ring < MAX_RING && ring * 2 * (size + 1) <= RING_BYTES;) ring *= 2;
    frame_size = size + (size < 126 ? 6 : size < 65536 ? 8 : 14);
    payloads = malloc(ring * size + 1);
    frames = malloc(ring * frame_size);
    if (!payloads || !frames) die("no memory for %zu messages of %zu bytes", ring, size);
    fill_random(payloads, ring * size);
    for (size_t i = 0; i < ring; i++) {
        uint8_t *payload = payloads + i * size, *frame = frames + i * frame_size;
        fill_random(mask, 4);
        size_t at = write_head(frame, 0x80 | (options.binary ? BINARY : TEXT), size, mask);
        for (size_t j = 0; j < size; j++) {
            if (!options.binary) payload[j] = ' ' + payload[j] % 95; /* printable, so UTF-8 */
            frame[at + j] = payload[j] ^ mask[j & 3];
        }
    }
}

/* The life of a connection. */

static void end(struct connection *c) {
    if (c->state == CLOSED) return;
    if (c->state < OPEN) opening--;
    c->state = CLOSED;
    closed++;
    if (c->ssl) SSL_free(c->ssl);
    c->ssl = NULL;
    ERR_clear_error(); /* or the next connection's SSL_get_error would read this one's */
    close(c->fd);
    free(c->response), free(c->out);
    c->response = NULL, c->out = NULL;
}

static void fail(struct connection *c, const char *format, ...) {
    if (c->state == CLOSED) return;
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

static void queue(struct connection *c, const void *bytes, size_t size) {
    if (c->out_size + size > c->out_capacity) {
        c->out_capacity = (c->out_size + size) * 2;
        c->out = realloc(c->out, c->out_capacity);
        if (!c->out) die("no memory for what waits to be sent");
    }
    memcpy(c->out + c->out_size, bytes, size);
    c->out_size += size;
}

static void flush(struct connection *c) {
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

static void send_message(struct connection *c, int64_t at) {
    queue(c, frames + (c->offset + c->sent) % ring * frame_size, frame_size);
    c->sent_at[c->sent % (uint64_t)options.depth] = at;
    c->sent++;
}

static void send_control(struct connection *c, enum opcode opcode, const void *bytes, size_t size) {
    uint8_t frame[6 + 125], mask[4];
    fill_random(mask, 4);
    size_t at = write_head(frame, 0x80 | opcode, size, mask);
    for (size_t i = 0; i < size; i++) frame[at + i] = ((const uint8_t *)bytes)[i] ^ mask[i & 3];
    queue(c, frame, at + size);
}

static void start(struct connection *c) {
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0) die("socket: %s (raise `ulimit -n`)", strerror(errno));
    int one = 1;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct sockaddr *address = (struct sockaddr *)&options.address;
    started++, opening++;
    c->offset = (uint64_t)rand();
    c->sent_at = calloc((size_t)options.depth, sizeof *c->sent_at);
    if (connect(c->fd, address, sizeof options.address) < 0 && errno != EINPROGRESS)
        fail(c, "connect: %s", strerror(errno));
    else
        watch(c, EPOLL_CTL_ADD);
}

static void send_request(struct connection *c) {
    uint8_t nonce[16];
    char text[1024];
    fill_random(nonce, sizeof nonce);
    EVP_EncodeBlock((uint8_t *)c->key, nonce, sizeof nonce);
    int size = snprintf(text, sizeof text,
                        "GET %s HTTP/1.1\r\nHost: %s:%d\r\nUpgrade: websocket\r\n"
                        "Connection: Upgrade\r\nSec-WebSocket-Key: %s\r\n"
                        "Sec-WebSocket-Version: 13\r\n\r\n",
                        options.path, options.host, options.port, c->key);
    c->state = UPGRADING;
    c->response = malloc(MAX_HEAD + 1);
    if (size >= (int)sizeof text || !c->response) die("the request does not fit");
    queue(c, text, (size_t)size);
    flush(c);
}

/* The opening handshake's answer, RFC 6455 section 4.1: says what is wrong with it, or NULL. */
static const char *check_response(struct connection *c, char *head) {
    char joined[64], expected[32];
    uint8_t digest[SHA_DIGEST_LENGTH];
    snprintf(joined, sizeof joined, "%s%s", c->key, GUID);
    SHA1((uint8_t *)joined, strlen(joined), digest);
    EVP_EncodeBlock((uint8_t *)expected, digest, sizeof digest);
    int upgrades = 0, upgraded = 0, accepted = 0;
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
        if (!strcasecmp(line, "Sec-WebSocket-Extensions")) return "it chose an extension";
        if (!strcasecmp(line, "Sec-WebSocket-Protocol")) return "it chose a subprotocol";
        if (!strcasecmp(line, "Content-Length")) return "a 101 has no body";
        if (!strcasecmp(line, "Transfer-Encoding")) return "a 101 has no body";
        line = line_end;
    }
    if (upgrades != 1) return "not exactly one Upgrade: websocket";
    if (upgraded != 1) return "not exactly one Connection: Upgrade";
    return accepted == 1 ? NULL : "not exactly one right Sec-WebSocket-Accept";
}

static size_t head_size(const struct connection *c) {
    int size = c->head_size < 2 ? 0 : c->head[1] & 0x7f;
    return size < 126 ? 2 : size == 126 ? 4 : 10;
}

static bool begin_frame(struct connection *c) {
    int opcode = c->head[0] & 15, wanted = options.binary ? BINARY : TEXT;
    bool is_final = c->head[0] & 0x80;
    uint64_t size = c->head[1] & 0x7f;
    if (size > 125) {
        size = 0;
        for (size_t i = 2; i < c->head_size; i++) size = size << 8 | c->head[i];
        if (size < (c->head_size == 4 ? 126 : 65536)) return fail(c, "a length is not minimal"), false;
    }
    if (c->head[0] & 0x70) return fail(c, "a reserved bit is set"), false;
    if (c->head[1] & 0x80) return fail(c, "a frame of the server is masked"), false;
    if (opcode >= CLOSE) {
        if (opcode > PONG) return fail(c, "unknown opcode %d", opcode), false;
        if (!is_final || size > 125) return fail(c, "a control frame is long or in parts"), false;
        c->control_size = 0;
    } else {
        if (c->received == c->sent) return fail(c, "a message that nobody sent"), false;
        if (opcode != (c->in_message ? CONTINUATION : wanted))
            return fail(c, "opcode %d is not what was sent", opcode), false;
        if (c->message_size + size > options.size) return fail(c, "an echo is too long"), false;
        c->in_message = true;
    }
    c->in_frame = true;
    c->frame_left = size;
    return true;
}

static void end_message(struct connection *c, int64_t at) {
    if (c->message_size != options.size) {
        fail(c, "an echo of %" PRIu64 " bytes", c->message_size);
        return;
    }
    int64_t took = at - c->sent_at[c->received % (uint64_t)options.depth];
    c->in_message = false;
    c->message_size = 0;
    c->received++;
    if (measuring) {
        messages++;
        histogram[bucket(took)]++;
        if (took > largest) largest = took;
    }
    if (refilling) send_message(c, at);
}

static void end_frame(struct connection *c, int64_t at) {
    int opcode = c->head[0] & 15;
    c->in_frame = false;
    c->head_size = 0;
    if (opcode < CLOSE) {
        if (c->head[0] & 0x80) end_message(c, at);
    } else if (opcode == PING) {
        send_control(c, PONG, c->control, c->control_size);
    } else if (opcode == CLOSE) {
        if (c->state == CLOSING) end(c);
        int code = c->control_size < 2 ? 1005 : c->control[0] << 8 | c->control[1];
        fail(c, "closed by the server with %d", code);
    }
}

static void read_frames(struct connection *c, const uint8_t *bytes, size_t size, int64_t at) {
    while (c->state != CLOSED) {
        if (!c->in_frame) {
            while (c->head_size < head_size(c)) {
                if (size == 0) return;
                c->head[c->head_size++] = *bytes++;
                size--;
            }
            if (!begin_frame(c)) return;
        }
        size_t taken = size < c->frame_left ? size : c->frame_left;
        if ((c->head[0] & 15) >= CLOSE) {
            memcpy(c->control + c->control_size, bytes, taken);
            c->control_size += taken;
        } else {
            const uint8_t *expected = payloads + (c->offset + c->received) % ring * options.size;
            if (memcmp(expected + c->message_size, bytes, taken) != 0) {
                fail(c, "an echo differs from what was sent");
                return;
            }
            c->message_size += taken;
        }
        bytes += taken, size -= taken;
        c->frame_left -= taken;
        if (c->frame_left > 0) return;
        end_frame(c, at);
    }
}

static void read_response(struct connection *c, const uint8_t *bytes, size_t size, int64_t at) {
    size_t before = c->response_size, room = MAX_HEAD - before;
    size_t taken = size < room ? size : room;
    memcpy(c->response + before, bytes, taken);
    c->response_size += taken;
    c->response[c->response_size] = '\0';
    char *blank = strstr(c->response, "\r\n\r\n");
    if (!blank) {
        if (c->response_size == MAX_HEAD) fail(c, "the response head has no end");
        return;
    }
    size_t used = (size_t)(blank + 4 - c->response) - before;
    char status[64];
    snprintf(status, sizeof status, "%.*s", (int)strcspn(c->response, "\r\n"), c->response);
    const char *problem = check_response(c, c->response);
    if (problem) {
        fail(c, "handshake: %s (%s)", problem, status);
        return;
    }
    free(c->response);
    c->response = NULL;
    c->state = OPEN;
    opened++, opening--;
    read_frames(c, bytes + used, size - used, at);
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
        int64_t at = now();
        if (c->state == UPGRADING)
            read_response(c, input, (size_t)n, at);
        else
            read_frames(c, input, (size_t)n, at);
    } while (c->state != CLOSED && c->ssl && SSL_has_pending(c->ssl));
}

static void shake_hands(struct connection *c) {
    if (!c->ssl) {
        c->ssl = SSL_new(tls);
        if (!c->ssl || !SSL_set_fd(c->ssl, c->fd)) die("OpenSSL: no connection object");
        SSL_set_connect_state(c->ssl);
    }
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

static void handle(struct connection *c, uint32_t events) {
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

/* One turn of the loop; true when standard input (or the timer) has something. */
static bool turn(int64_t until) {
    static struct epoll_event events[256];
    bool woken = false;
    int64_t before = now(), left = until - before;
    int timeout = left <= 0 ? 0 : (int)((left + 999999) / 1000000);
    int count = epoll_wait(poller, events, 256, timeout);
    waited += now() - before;
    if (count < 0 && errno != EINTR) die("epoll_wait: %s", strerror(errno));
    for (int i = 0; i < count; i++) {
        if (events[i].data.ptr)
            handle(events[i].data.ptr, events[i].events);
        else
            woken = true;
    }
    return woken;
}

/* Phases of a run. */

static void open_all(void) {
    int64_t until = now() + OPEN_TIMEOUT * SECOND;
    while (opened + closed < options.connections) {
        while (opening < MAX_OPENING && started < options.connections) start(connections + started);
        if (now() > until) die("%d of %d connections opened in %d s", opened,
                               options.connections, OPEN_TIMEOUT);
        turn(now() + SECOND / 10);
        if (errors) die("not every connection opened");
    }
}

static bool is_drained(void) {
    for (int i = 0; i < options.connections; i++)
        if (connections[i].state == OPEN && connections[i].received < connections[i].sent) return false;
    return true;
}

static void drain(void) {
    int64_t until = now() + DRAIN_TIMEOUT * SECOND;
    while (!is_drained() && now() < until) turn(now() + SECOND / 100);
    for (int i = 0; i < options.connections; i++)
        if (connections[i].state == OPEN && connections[i].received < connections[i].sent)
            fail(connections + i, "an echo never came");
}

static void close_all(void) {
    static const uint8_t normal[2] = {1000 >> 8, 1000 & 255};
    for (int i = 0; i < options.connections; i++) {
        struct connection *c = connections + i;
        if (c->state != OPEN) continue;
        c->state = CLOSING;
        send_control(c, CLOSE, normal, sizeof normal);
        flush(c);
    }
    for (int64_t until = now() + DRAIN_TIMEOUT * SECOND; closed < started && now() < until;)
        turn(now() + SECOND / 10);
}

static double cpu_seconds(clockid_t clock) {
    struct timespec t = {0};
    if (clock_gettime(clock, &t) < 0) die("process %d has gone", options.watch);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Seconds that a process was ready to run and waited for a core: others were in the way. */
static double queued_seconds(int pid) {
    char path[64];
    unsigned long long ran = 0, queued = 0;
    snprintf(path, sizeof path, "/proc/%d/schedstat", pid);
    FILE *file = fopen(path, "r");
    if (!file) return 0;
    if (fscanf(file, "%llu %llu", &ran, &queued) != 2) queued = 0;
    fclose(file);
    return (double)queued / 1e9;
}

static void run_until(int64_t until) {
    static int64_t began;
    static uint64_t due; /* messages of the schedule that are sent */
    while (now() < until) {
        if (closed == options.connections) die("every connection failed");
        turn(until);
        if (options.rate <= 0) continue;
        int64_t at = now(), next;
        if (!began) began = at;
        for (; (next = began + (int64_t)((double)due * 1e9 / options.rate)) <= at; due++) {
            struct connection *c = connections + due % (uint64_t)options.connections;
            if (c->state != OPEN) continue;
            if (c->sent - c->received == (uint64_t)options.depth) break;
            send_message(c, next);
            flush(c);
        }
        if (next <= at) next = at + 100000; /* all its places are taken: look again soon */
        struct itimerspec alarm = {.it_value = {next / SECOND, next % SECOND}};
        uint64_t ticks;
        if (read(timer, &ticks, sizeof ticks) < 0 && errno != EAGAIN) die("timer: %s", strerror(errno));
        timerfd_settime(timer, TFD_TIMER_ABSTIME, &alarm, NULL);
    }
}

static void measure(void) {
    clockid_t server = CLOCK_PROCESS_CPUTIME_ID;
    if (options.watch && clock_getcpuclockid(options.watch, &server)) die("no process %d", options.watch);
    if (options.rate > 0) {
        struct epoll_event event = {.events = EPOLLIN};
        timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
        epoll_ctl(poller, EPOLL_CTL_ADD, timer, &event);
        struct itimerspec soon = {.it_value = {0, 1}};
        timerfd_settime(timer, 0, &soon, NULL);
    } else {
        refilling = true;
        for (int i = 0; i < options.connections; i++) {
            for (int j = 0; j < options.depth; j++) send_message(connections + i, now());
            flush(connections + i);
        }
    }
    run_until(now() + (int64_t)(options.warm_up * 1e9));
    double cpu = cpu_seconds(CLOCK_PROCESS_CPUTIME_ID), server_cpu = cpu_seconds(server);
    double queued = queued_seconds(getpid()), server_queued = queued_seconds(options.watch);
    int64_t began = now();
    waited = 0;
    measuring = true;
    run_until(began + (int64_t)(options.duration * 1e9));
    measuring = refilling = false;
    double seconds = (double)(now() - began) / 1e9, busy = 1 - (double)waited / 1e9 / seconds;
    cpu = cpu_seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    server_cpu = options.watch ? cpu_seconds(server) - server_cpu : 0;
    queued = queued_seconds(getpid()) - queued;
    server_queued = queued_seconds(options.watch) - server_queued;
    drain();
    printf("{\"messages\": %" PRIu64 ", \"seconds\": %.6f, \"rate\": %.1f, \"p50_us\": %.1f, "
           "\"p99_us\": %.1f, \"p999_us\": %.1f, \"max_us\": %.1f, \"errors\": %" PRIu64
           ", \"cpu_seconds\": %.6f, \"busy\": %.4f, \"queued_seconds\": %.6f, "
           "\"server_cpu_seconds\": %.6f, \"server_queued_seconds\": %.6f}\n",
           messages, seconds, (double)messages / seconds, microseconds_at(0.5),
           microseconds_at(0.99), microseconds_at(0.999), (double)largest / 1e3, errors, cpu, busy,
           queued, server_cpu, server_queued);
}

/* Hold the connections open, answer pings, and end with standard input. */
static void idle(void) {
    struct epoll_event event = {.events = EPOLLIN};
    if (options.touch) {
        for (int i = 0; i < options.connections; i++) {
            send_message(connections + i, now());
            flush(connections + i);
        }
        drain();
    }
    if (epoll_ctl(poller, EPOLL_CTL_ADD, STDIN_FILENO, &event) < 0)
        die("--idle needs a pipe as its standard input");
    printf("{\"open\": %d, \"errors\": %" PRIu64 "}\n", opened - closed, errors);
    fflush(stdout);
    for (int64_t until = now() + (int64_t)(options.duration * 1e9); now() < until;)
        if (turn(until)) break;
    epoll_ctl(poller, EPOLL_CTL_DEL, STDIN_FILENO, NULL);
}

static const char *const usage =
    "usage: load --port PORT [options]\n"
    "  --host ADDRESS      IPv4 address (127.0.0.1)      --tls           wss, without verification\n"
    "  --path PATH         of the request (/)            --binary        instead of text\n"
    "  --connections N     (1)                           --size BYTES    of a message (64)\n"
    "  --depth N           messages under way per connection (1; with --rate, at most)\n"
    "  --rate N            messages per second, all connections together (as fast as it goes)\n"
    "  --duration SECONDS  measured (3)                  --warm-up SECONDS  before (1)\n"
    "  --idle              only hold the connections until standard input ends\n"
    "  --touch             with --idle: one echo on each connection before\n"
    "  --core N            run on this core              --watch PID     measure this process too\n";

static void parse(int count, char **arguments) {
    static const struct option known[] = {
        {"host", 1, 0, 'h'},    {"port", 1, 0, 'p'},     {"path", 1, 0, 'P'},
        {"connections", 1, 0, 'n'}, {"size", 1, 0, 's'}, {"depth", 1, 0, 'd'},
        {"rate", 1, 0, 'r'},    {"duration", 1, 0, 't'}, {"warm-up", 1, 0, 'w'},
        {"core", 1, 0, 'c'},    {"watch", 1, 0, 'W'},    {"tls", 0, 0, 'T'},
        {"binary", 0, 0, 'b'},  {"idle", 0, 0, 'i'},     {"touch", 0, 0, 'u'},
        {"help", 0, 0, '?'},    {0}};
    for (int letter; (letter = getopt_long(count, arguments, "", known, NULL)) != -1;) {
        switch (letter) {
        case 'h': options.host = optarg; break;
        case 'p': options.port = atoi(optarg); break;
        case 'P': options.path = optarg; break;
        case 'n': options.connections = atoi(optarg); break;
        case 's': options.size = strtoul(optarg, NULL, 10); break;
        case 'd': options.depth = atoi(optarg); break;
        case 'r': options.rate = atof(optarg); break;
        case 't': options.duration = atof(optarg); break;
        case 'w': options.warm_up = atof(optarg); break;
        case 'c': options.core = atoi(optarg); break;
        case 'W': options.watch = atoi(optarg); break;
        case 'T': options.tls = true; break;
        case 'b': options.binary = true; break;
        case 'i': options.idle = true; break;
        case 'u': options.touch = true; break;
        default: fputs(usage, stderr); exit(2);
        }
    }
    if (options.port < 1 || options.connections < 1 || options.depth < 1 || optind < count) {
        fputs(usage, stderr);
        exit(2);
    }
    options.address.sin_family = AF_INET;
    options.address.sin_port = htons((uint16_t)options.port);
    if (inet_pton(AF_INET, options.host, &options.address.sin_addr) != 1)
        die("%s is no IPv4 address", options.host);
}

int main(int count, char **arguments) {
    parse(count, arguments);
    signal(SIGPIPE, SIG_IGN); /* OpenSSL writes with write(2) */
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    if (files.rlim_max < (rlim_t)options.connections + 16)
        die("%d connections need `ulimit -n %d`; it is %llu", options.connections,
            options.connections + 16, (unsigned long long)files.rlim_max);
    if (options.core >= 0) {
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET((size_t)options.core, &set);
        if (sched_setaffinity(0, sizeof set, &set) < 0) die("no core %d", options.core);
    }
    if (options.tls) {
        tls = SSL_CTX_new(TLS_client_method());
        if (!tls) die("OpenSSL: no context");
        SSL_CTX_set_verify(tls, SSL_VERIFY_NONE, NULL);
        SSL_CTX_set_read_ahead(tls, 1); /* one read(2) per record instead of two */
        SSL_CTX_set_mode(tls, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                  SSL_MODE_RELEASE_BUFFERS);
    }
    poller = epoll_create1(EPOLL_CLOEXEC);
    connections = calloc((size_t)options.connections, sizeof *connections);
    if (poller < 0 || !connections) die("no memory for %d connections", options.connections);
    srand((unsigned)now());
    make_messages();
    open_all();
    if (options.idle)
        idle();
    else
        measure();
    close_all();
    return errors ? 1 : 0;
}
