/*
 * crowd: many WebSocket clients in one thread, all of which get what some of them send.
 *
 * In a round each of the first SENDERS clients sends one message, and every client is to get all
 * of them. A client sends its next when DEPTH rounds before it have arrived whole, so that slow
 * ones are waited for. Every frame's header is compared, and at the end every client must have
 * got every message: as many as were sent, whose senders' numbers add up. The answer is one line
 * of JSON on standard output. Built by generator.py, used by fanout.py; `crowd --help`.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define SECOND INT64_C(1000000000)
#define MAX_SIZE 125      /* bytes of a message: the frame's header is two bytes */
#define MIN_SIZE 12       /* a sender's number and a round's */
#define MAX_OPENING 64    /* handshakes at once: under every server's listen backlog */
#define OPEN_TIMEOUT 120  /* seconds for all handshakes together */
#define DRAIN_TIMEOUT 20  /* seconds for what is under way at the end */
#define MAX_WATCHED 8

struct client {
    int fd;
    SSL *ssl;
    enum { CONNECTING, TLS, UPGRADING, OPEN } state;
    size_t head_size; /* of the 101, so far */
    char head[2048];
    uint8_t rest[2 + MAX_SIZE]; /* the beginning of a frame whose end has not come */
    size_t rest_size;
    uint64_t received, sum, sent;
};

static struct {
    const char *ports;
    int clients, senders, depth, core, watch[MAX_WATCHED], watched;
    size_t size;
    double duration, warm_up;
    bool tls;
} options = {.clients = 100, .senders = 0, .depth = 2, .core = -1, .size = 20, .duration = 2,
             .warm_up = 0.5};

static struct client *clients;
static SSL_CTX *tls;
static int poller, ports[16], port_count, opened, started;
static uint8_t input[sizeof clients->rest + (1 << 18)];
static uint64_t deliveries;
static bool sending;
static int64_t waited;

static int64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * SECOND + t.tv_nsec;
}

static void die(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("crowd: ", stderr);
    vfprintf(stderr, format, arguments);
    fputs("\n", stderr);
    va_end(arguments);
    exit(1);
}

static int number_of(const struct client *c) { return (int)(c - clients); }

static void put(struct client *c, const void *bytes, size_t size) {
    /* A few bytes into a buffer that is empty, or nearly: they fit. */
    ssize_t n = c->ssl ? SSL_write(c->ssl, bytes, (int)size) : send(c->fd, bytes, size, MSG_NOSIGNAL);
    if (n != (ssize_t)size) die("client %d cannot send: %s", number_of(c), strerror(errno));
}

/* A masked text frame: the sender's number in base 64 letters, the round's, and filling. */
static void send_message(struct client *c) {
    uint8_t frame[6 + MAX_SIZE] = {0x81, (uint8_t)(0x80 | options.size), 0x12, 0x34, 0x56, 0x78};
    char text[MAX_SIZE + 1];
    int number = number_of(c);
    for (size_t i = 0; i < options.size; i++) text[i] = '.';
    for (int i = 0; i < 4; i++, number >>= 6) text[i] = (char)('0' + (number & 63));
    for (int i = 0; i < 8; i++) text[4 + i] = (char)('a' + (c->sent >> (4 * i) & 15));
    for (size_t i = 0; i < options.size; i++) frame[6 + i] = (uint8_t)text[i] ^ frame[2 + i % 4];
    put(c, frame, 6 + options.size);
    c->sent++;
}

static void send_due(struct client *c) {
    while (sending && number_of(c) < options.senders &&
           c->sent < c->received / (uint64_t)options.senders + (uint64_t)options.depth)
        send_message(c);
}

static uint32_t read_number(const uint8_t *payload) {
    uint32_t number = 0;
    for (int i = 3; i >= 0; i--) number = number << 6 | (uint32_t)(payload[i] - '0');
    return number;
}

/* A ping, which servers send now and then; returns its length, or 0 if not all of it is here. */
static size_t answer_ping(struct client *c, const uint8_t *bytes, size_t size) {
    uint8_t pong[6 + MAX_SIZE] = {0x8a, 0x80}; /* the mask is 0 */
    if (size < 2 || size < (size_t)bytes[1] + 2) return 0;
    if (bytes[0] != 0x89 || bytes[1] > MAX_SIZE)
        die("client %d got a frame that begins with %02x %02x", number_of(c), bytes[0], bytes[1]);
    pong[1] |= bytes[1];
    memcpy(pong + 6, bytes + 2, bytes[1]);
    put(c, pong, 6 + (size_t)bytes[1]);
    return 2 + (size_t)bytes[1];
}

static void read_frames(struct client *c, const uint8_t *bytes, size_t size) {
    const uint8_t *end = bytes + size;
    size_t frame = 2 + options.size, taken = 1;
    uint64_t count = 0;
    while (taken) {
        while ((size_t)(end - bytes) >= frame && bytes[0] == 0x81 && bytes[1] == options.size) {
            c->sum += read_number(bytes + 2);
            bytes += frame;
            count++;
        }
        taken = 0;
        if (end - bytes >= 2 && (bytes[0] != 0x81 || bytes[1] != options.size))
            taken = answer_ping(c, bytes, (size_t)(end - bytes));
        bytes += taken;
    }
    c->received += count;
    deliveries += count;
    c->rest_size = (size_t)(end - bytes);
    memcpy(c->rest, bytes, c->rest_size);
    send_due(c);
}

static void read_head(struct client *c, const uint8_t *bytes, size_t size) {
    if (c->head_size + size >= sizeof c->head) die("the response head is too long");
    memcpy(c->head + c->head_size, bytes, size);
    c->head_size += size;
    c->head[c->head_size] = '\0';
    if (!strstr(c->head, "\r\n\r\n")) return;
    if (strncmp(c->head, "HTTP/1.1 101 ", 13) != 0)
        die("client %d was refused: %.60s", number_of(c), c->head);
    if (strcmp(c->head + c->head_size - 4, "\r\n\r\n") != 0) die("a message before the first");
    c->state = OPEN;
    opened++;
}

static void receive(struct client *c) {
    do {
        uint8_t *at = input + c->rest_size;
        size_t room = sizeof input - c->rest_size;
        ssize_t n;
        memcpy(input, c->rest, c->rest_size);
        if (c->ssl) {
            n = SSL_read(c->ssl, at, (int)room);
            if (n <= 0 && SSL_get_error(c->ssl, (int)n) == SSL_ERROR_WANT_READ) return;
        } else {
            n = recv(c->fd, at, room, 0);
            if (n < 0 && errno == EAGAIN) return;
        }
        if (n <= 0) die("the connection of client %d ended", number_of(c));
        if (c->state == UPGRADING)
            read_head(c, at, (size_t)n);
        else
            read_frames(c, input, c->rest_size + (size_t)n);
    } while (c->ssl && SSL_has_pending(c->ssl));
}

/* The opening. */

static void watch(struct client *c, int operation, uint32_t interest) {
    struct epoll_event event = {.events = interest, .data.ptr = c};
    if (epoll_ctl(poller, operation, c->fd, &event) < 0) die("epoll_ctl: %s", strerror(errno));
}

static void start(struct client *c) {
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)ports[number_of(c) % port_count]),
                                  .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int one = 1;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0) die("socket: %s (raise `ulimit -n`)", strerror(errno));
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    started++;
    if (connect(c->fd, (struct sockaddr *)&address, sizeof address) < 0 && errno != EINPROGRESS)
        die("connect: %s", strerror(errno));
    watch(c, EPOLL_CTL_ADD, EPOLLOUT);
}

static void shake_hands(struct client *c) {
    static const char request[] =
        "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    if (c->ssl) {
        int result = SSL_do_handshake(c->ssl), error = SSL_get_error(c->ssl, result);
        if (result != 1) {
            bool is_writing = error == SSL_ERROR_WANT_WRITE;
            if (!is_writing && error != SSL_ERROR_WANT_READ)
                die("TLS handshake: %s", ERR_reason_error_string(ERR_peek_last_error()));
            watch(c, EPOLL_CTL_MOD, is_writing ? EPOLLOUT : EPOLLIN);
            return;
        }
    }
    c->state = UPGRADING;
    put(c, request, sizeof request - 1);
    watch(c, EPOLL_CTL_MOD, EPOLLIN);
}

static void handle(struct client *c) {
    if (c->state == CONNECTING) {
        int error = 0;
        socklen_t size = sizeof error;
        getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size);
        if (error) die("connect: %s", strerror(error));
        if (options.tls) {
            c->ssl = SSL_new(tls);
            if (!c->ssl || !SSL_set_fd(c->ssl, c->fd)) die("OpenSSL: no connection object");
            SSL_set_connect_state(c->ssl);
            c->state = TLS;
        }
        shake_hands(c);
    } else if (c->state == TLS) {
        shake_hands(c);
    } else {
        receive(c);
    }
}

static void turn(int64_t until) {
    static struct epoll_event events[1024];
    int64_t before = now(), left = until - before;
    int count = epoll_wait(poller, events, 1024, left <= 0 ? 0 : (int)((left + 999999) / 1000000));
    waited += now() - before;
    if (count < 0 && errno != EINTR) die("epoll_wait: %s", strerror(errno));
    for (int i = 0; i < count; i++) handle(events[i].data.ptr);
}

static void run_until(int64_t until) {
    while (now() < until) turn(until);
}

static double cpu_seconds(int pid) {
    clockid_t clock = CLOCK_PROCESS_CPUTIME_ID;
    struct timespec t = {0};
    if (pid && clock_getcpuclockid(pid, &clock)) die("there is no process %d", pid);
    clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double watched_seconds(void) {
    double seconds = 0;
    for (int i = 0; i < options.watched; i++) seconds += cpu_seconds(options.watch[i]);
    return seconds;
}

static void check(void) {
    uint64_t rounds = clients[0].sent, sum = 0;
    for (int i = 0; i < options.senders; i++) {
        if (clients[i].sent > rounds) rounds = clients[i].sent;
        sum += (uint64_t)i;
    }
    /* Everybody ends with the same round, so that all sums are known. */
    for (int i = 0; i < options.senders; i++)
        while (clients[i].sent < rounds) send_message(clients + i);
    int64_t until = now() + DRAIN_TIMEOUT * SECOND;
    for (int i = 0; i < options.clients;) {
        if (clients[i].received == rounds * (uint64_t)options.senders)
            i++;
        else if (now() > until)
            die("client %d got %" PRIu64 " of %" PRIu64 " messages", i, clients[i].received,
                rounds * (uint64_t)options.senders);
        else
            turn(now() + SECOND / 100);
    }
    for (int i = 0; i < options.clients; i++)
        if (clients[i].sum != rounds * sum || clients[i].rest_size)
            die("client %d did not get every message once", i);
}

static void parse(int count, char **arguments) {
    static const struct option known[] = {
        {"port", 1, 0, 'p'},     {"clients", 1, 0, 'n'}, {"senders", 1, 0, 'm'},
        {"size", 1, 0, 's'},     {"depth", 1, 0, 'd'},   {"duration", 1, 0, 't'},
        {"warm-up", 1, 0, 'w'},  {"core", 1, 0, 'c'},    {"watch", 1, 0, 'W'},
        {"tls", 0, 0, 'T'},      {"help", 0, 0, '?'},    {0}};
    for (int letter; (letter = getopt_long(count, arguments, "", known, NULL)) != -1;) {
        switch (letter) {
        case 'p': if (port_count < 16) ports[port_count++] = atoi(optarg); break;
        case 'n': options.clients = atoi(optarg); break;
        case 'm': options.senders = atoi(optarg); break;
        case 's': options.size = strtoul(optarg, NULL, 10); break;
        case 'd': options.depth = atoi(optarg); break;
        case 't': options.duration = atof(optarg); break;
        case 'w': options.warm_up = atof(optarg); break;
        case 'c': options.core = atoi(optarg); break;
        case 'W': if (options.watched < MAX_WATCHED) options.watch[options.watched++] = atoi(optarg); break;
        case 'T': options.tls = true; break;
        default: port_count = 0;
        }
    }
    if (!options.senders) options.senders = options.clients;
    if (!port_count || options.clients < 1 || options.senders > options.clients ||
        options.size < MIN_SIZE || options.size > MAX_SIZE || options.depth < 1) {
        fputs("usage: crowd --port PORT [--port PORT...] [options]\n"
              "  --clients N  (100)           --senders N  of them, in each round (all)\n"
              "  --size BYTES (20; 12 to 125) --depth N    rounds under way (2)\n"
              "  --duration S (2)             --warm-up S  (0.5)\n"
              "  --tls                        --core N     run on this core\n"
              "  --watch PID  measure this process too; may be repeated\n", stderr);
        exit(2);
    }
}

int main(int count, char **arguments) {
    parse(count, arguments);
    signal(SIGPIPE, SIG_IGN);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    if (options.core >= 0) {
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET((size_t)options.core, &set);
        if (sched_setaffinity(0, sizeof set, &set) < 0) die("there is no core %d", options.core);
    }
    if (options.tls) {
        tls = SSL_CTX_new(TLS_client_method());
        if (!tls) die("OpenSSL: no context");
        SSL_CTX_set_verify(tls, SSL_VERIFY_NONE, NULL);
        SSL_CTX_set_read_ahead(tls, 1);
    }
    poller = epoll_create1(EPOLL_CLOEXEC);
    clients = calloc((size_t)options.clients, sizeof *clients);
    if (poller < 0 || !clients) die("no memory for %d clients", options.clients);
    for (int64_t until = now() + OPEN_TIMEOUT * SECOND; opened < options.clients;) {
        while (started < options.clients && started - opened < MAX_OPENING) start(clients + started);
        if (now() > until) die("%d of %d clients opened", opened, options.clients);
        turn(now() + SECOND / 10);
    }
    /* What a server does when somebody has come is not measured. */
    run_until(now() + SECOND / 5);
    sending = true;
    for (int i = 0; i < options.senders; i++) send_due(clients + i);
    run_until(now() + (int64_t)(options.warm_up * 1e9));
    uint64_t before = deliveries;
    double cpu = cpu_seconds(0), watched = watched_seconds();
    int64_t began = now();
    waited = 0;
    run_until(began + (int64_t)(options.duration * 1e9));
    double seconds = (double)(now() - began) / 1e9, idle = (double)waited / 1e9;
    cpu = cpu_seconds(0) - cpu, watched = watched_seconds() - watched;
    before = deliveries - before;
    sending = false;
    check();
    printf("{\"deliveries\": %" PRIu64 ", \"seconds\": %.6f, \"cpu_seconds\": %.6f, "
           "\"busy\": %.4f, \"server_cpu_seconds\": %.6f}\n",
           before, seconds, cpu, 1 - idle / seconds, watched);
    return 0;
}
