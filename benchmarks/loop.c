/* The event loop of docs/semantics/run_to_completion.md in C, with the built-in policies and the affine law written out: the floor that
   the compiled Python loop is held against. No allocation, no indirect call; one specialised copy a scheduler. */
#include <math.h>
#include <stdint.h>

typedef struct {
    double start_s, finish_s, first_token_s, step_s;
    float controller_low, controller_high;
    int32_t first, size, limit, gpu, b_mem, b_sla, queue;
} Batch; /* as mbexp.simulator.batch_loop.BATCH_DTYPE */

enum { FIXED, DYNAMIC };
enum { ROUND_ROBIN, LONGEST_QUEUE, OLDEST_HEAD, FIRST_FORMED, SHORTEST_BIN };
enum { GREEDY, FULL, TIMEOUT };

/* State of the dynamic rule: as mbexp.policy.batch_size. */
enum { B_MEM, B_SLA, LOW, HIGH, REQUESTS, SUM_TOKENS, SUM_SQUARES, BATCHES, WINDOW };
enum { B_LOWEST, B_HIGHEST, CAPACITY, THETA, ORIGINAL_RULE, TARGET_S, TOLERANCE_S, ALPHA, DELTA, WINDOW_BATCHES, INTERVAL };

typedef struct { /* the accepted requests: arrivals and queues in trace order, the rest sorted by queue */
    const double *arrival_s;
    const uint16_t *queue_of;
    const int64_t *queue_start;
    const int32_t *index;
    const int32_t *prompt, *output, *predicted;
    int64_t n, queues;
} Requests;

typedef struct { /* one entry a queue */
    int64_t *ready, *waiting, *limit, *head, *head_index;
    double *formed_s;
    uint8_t *is_ready;
    int64_t ready_count;
} Queues;

#define INLINE static inline __attribute__((always_inline))
#define LEAST(a, b) ((a) < (b) ? (a) : (b))
#define MOST(a, b) ((a) > (b) ? (a) : (b))

INLINE int64_t dynamic_limit(const double *restrict p, double *restrict s, int64_t size, double tokens, double squares, double step_s)
{
    if (size == 0) {
        s[B_MEM] = s[HIGH] = p[B_HIGHEST];
        s[LOW] = p[B_LOWEST];
        s[B_SLA] = floor((p[B_LOWEST] + p[B_HIGHEST]) / 2);
        return (int64_t)LEAST(s[B_MEM], s[B_SLA]);
    }
    s[REQUESTS] += (double)size;
    s[SUM_TOKENS] += tokens;
    s[SUM_SQUARES] += squares;
    double mean = s[SUM_TOKENS] / s[REQUESTS], b_mem;
    if (p[ORIGINAL_RULE] != 0.0) {
        b_mem = floor((p[CAPACITY] - 0.1 * p[CAPACITY]) / mean);
    } else {
        double variance = s[SUM_SQUARES] / s[REQUESTS] - mean * mean;
        double spread = sqrt(MOST(variance, 0.0)) * p[THETA];
        double root = (sqrt(spread * spread + 4.0 * mean * p[CAPACITY]) - spread) / (2.0 * mean);
        b_mem = floor(root * root);
    }
    s[B_MEM] = LEAST(MOST(b_mem, p[B_LOWEST]), p[B_HIGHEST]);

    int64_t length = (int64_t)p[WINDOW_BATCHES], done = (int64_t)s[BATCHES];
    int64_t slot = done % length; /* each pair is kept twice, a window apart, so that the window is one stretch */
    s[WINDOW + slot] = s[WINDOW + slot + length] = step_s;
    s[WINDOW + 2 * length + slot] = s[WINDOW + 3 * length + slot] = (double)size;
    done += 1;
    s[BATCHES] = (double)done;
    if (done % (int64_t)p[INTERVAL] == 0) {
        int64_t recent = LEAST(done, length), oldest = done > length ? done % length : 0;
        double step_sum = 0.0, size_sum = 0.0;
        for (int64_t i = oldest; i < oldest + recent; i++) {
            step_sum += s[WINDOW + i];
            size_sum += s[WINDOW + 2 * length + i];
        }
        double step_mean = step_sum / (double)recent, size_mean = size_sum / (double)recent, low = s[LOW], high = s[HIGH];
        double half = floor(p[ALPHA] / 2);
        if (step_mean > p[TARGET_S] + p[TOLERANCE_S]) {
            s[HIGH] = MOST(size_mean, low + p[ALPHA]);
            s[LOW] = MOST(low - p[DELTA], p[B_LOWEST]);
        } else if (step_mean < p[TARGET_S] - p[TOLERANCE_S]) {
            s[LOW] = LEAST(size_mean, high - p[ALPHA]);
            s[HIGH] = LEAST(high + p[DELTA], p[B_HIGHEST]);
        } else {
            s[HIGH] = LEAST(size_mean + half, p[B_HIGHEST]);
            s[LOW] = MOST(size_mean - half, p[B_LOWEST]);
        }
        double b_sla = floor((s[LOW] + s[HIGH]) / 2);
        s[B_SLA] = LEAST(MOST(b_sla, p[B_LOWEST]), p[B_HIGHEST]);
    }
    return (int64_t)LEAST(s[B_MEM], s[B_SLA]);
}

INLINE int64_t next_limit(int rule, const double *p, double *s, int64_t size, double tokens, double squares, double step_s)
{
    return rule == FIXED ? (int64_t)p[0] : dynamic_limit(p, s, size, tokens, squares, step_s);
}

INLINE int64_t select_queue(int rule, const Queues *q, int64_t *turn)
{
    const int64_t *ready = q->ready, count = q->ready_count;
    int64_t chosen = ready[0];
    switch (rule) {
    case ROUND_ROBIN:
        for (int64_t i = 0; i < count; i++)
            if (ready[i] >= *turn) { chosen = ready[i]; break; }
        *turn = chosen + 1;
        break;
    case LONGEST_QUEUE:
        for (int64_t i = 1; i < count; i++)
            if (q->waiting[ready[i]] > q->waiting[chosen]) chosen = ready[i];
        break;
    case OLDEST_HEAD:
        for (int64_t i = 1; i < count; i++)
            if (q->head_index[ready[i]] < q->head_index[chosen]) chosen = ready[i];
        break;
    case FIRST_FORMED:
        for (int64_t i = 1; i < count; i++) {
            double one = q->formed_s[ready[i]], other = q->formed_s[chosen];
            if (one < other || (one == other && q->head_index[ready[i]] < q->head_index[chosen])) chosen = ready[i];
        }
        break;
    }
    return chosen;
}

/* When `queue` is formed and whether it is ready; returns the timer with its future instant taken into account. Heads are
   looked up only for rules that ask for them. */
INLINE double refresh(int select, int fill, double timeout_s, const Requests *r, Queues *q, int64_t queue, double now_s, double flush_s, double timer_s)
{
    int64_t count = q->waiting[queue];
    int is_now = count > 0;
    if (fill != GREEDY || select == OLDEST_HEAD || select == FIRST_FORMED) {
        double formed_s = INFINITY;
        if (count > 0) {
            int64_t first = q->head[queue], limit = q->limit[queue], head = r->index[first];
            double head_s = r->arrival_s[head];
            double filling_s = fill != GREEDY && count >= limit ? r->arrival_s[r->index[first + limit - 1]] : INFINITY;
            q->head_index[queue] = head;
            formed_s = fill == GREEDY ? head_s : fill == FULL ? filling_s : LEAST(filling_s, head_s + timeout_s);
            formed_s = LEAST(formed_s, flush_s);
        }
        q->formed_s[queue] = formed_s;
        is_now = formed_s <= now_s;
        if (!is_now && formed_s < timer_s) timer_s = formed_s;
    }
    if (is_now != q->is_ready[queue]) {
        q->is_ready[queue] = (uint8_t)is_now;
        int64_t *ready = q->ready, place;
        if (is_now) {
            for (place = q->ready_count++; place > 0 && ready[place - 1] > queue; place--) ready[place] = ready[place - 1];
            ready[place] = queue;
        } else {
            for (place = 0; ready[place] != queue; place++) {}
            for (q->ready_count--; place < q->ready_count; place++) ready[place] = ready[place + 1];
        }
    }
    return timer_s;
}

/* Busy GPUs: a binary heap by (completion, index), with an infinite time behind its end. */
INLINE int64_t push_busy(double *times, int32_t *gpus, int64_t size, double time, int32_t gpu)
{
    int64_t place = size;
    times[place + 1] = INFINITY;
    while (place > 0) {
        int64_t parent = (place - 1) >> 1;
        if (times[parent] < time || (times[parent] == time && gpus[parent] < gpu)) break;
        times[place] = times[parent];
        gpus[place] = gpus[parent];
        place = parent;
    }
    times[place] = time;
    gpus[place] = gpu;
    return size + 1;
}

INLINE int64_t pop_busy(double *times, int32_t *gpus, int64_t size)
{
    double time = times[--size];
    int32_t gpu = gpus[size];
    int64_t place = 0, child = 1;
    times[size] = INFINITY;
    while (child < size) {
        /* without branches, for their outcome cannot be foreseen */
        child += (times[child + 1] < times[child]) | ((times[child + 1] == times[child]) & (gpus[child + 1] < gpus[child]));
        if (time < times[child] || (time == times[child] && gpu < gpus[child])) break;
        times[place] = times[child];
        gpus[place] = gpus[child];
        place = child;
        child = 2 * place + 1;
    }
    if (size > 0) {
        times[place] = time;
        gpus[place] = gpu;
    }
    return size;
}

/* Idle GPUs: a tree of 64-bit words. Bit b of word i says whether anything is set below word 64 i + 1 + b; GPUs stand for
   the words behind the last. */
INLINE void add_idle(uint64_t *words, int64_t count, int64_t gpu)
{
    for (int64_t node = count + gpu; node > 0; node = (node - 1) >> 6) {
        uint64_t *word = words + ((node - 1) >> 6), before = *word;
        *word = before | UINT64_C(1) << ((node - 1) & 63);
        if (before) break;
    }
}

INLINE int32_t take_lowest_idle(uint64_t *words, int64_t count)
{
    int64_t node = 0;
    while (node < count) node = (node << 6) + 1 + __builtin_ctzll(words[node]);
    int64_t gpu = node - count;
    for (; node > 0; node = (node - 1) >> 6)
        if (words[(node - 1) >> 6] &= ~(UINT64_C(1) << ((node - 1) & 63))) break;
    return (int32_t)gpu;
}

typedef struct { int64_t need, tokens, squares; int32_t longest_output, longest_total; } Measures;

INLINE Measures measure(const Requests *r, int64_t first, int64_t size)
{
    Measures m = {0, 0, 0, 0, 0};
    for (int64_t i = first; i < first + size; i++) {
        int32_t prompt = r->prompt[i], output = r->output[i], total = prompt + output;
        m.need += (int64_t)prompt + r->predicted[i];
        m.longest_output = MOST(m.longest_output, output);
        m.longest_total = MOST(m.longest_total, total);
        m.tokens += total;
        m.squares += (int64_t)total * total;
    }
    return m;
}

/* Scratch, all of it given by the caller. per_queue: 6 arrays of `queues` 8-byte words, then `queues` bytes.
   per_gpu: `gpus + 1` doubles, 2 arrays of `gpus` doubles, then `gpus + 1` and `gpus` int32. idle: a full tree of `words` words, zeros. */
INLINE int64_t simulate(int rule, int select, int fill, const Requests *r, int32_t gpus, int64_t capacity, const double *law,
                        const double *parameters, double *states, int64_t width, double timeout_s, int64_t *per_queue,
                        double *per_gpu, uint64_t *idle, int64_t words, Batch *batches)
{
    const int64_t n = r->n, queues = r->queues;
    const double end_s = n > 0 ? r->arrival_s[n - 1] : 0.0;
    Queues q = {per_queue, per_queue + queues, per_queue + 2 * queues, per_queue + 3 * queues, per_queue + 4 * queues,
                (double *)(per_queue + 5 * queues), (uint8_t *)(per_queue + 6 * queues), 0};
    double *busy_until_s = per_gpu, *running_tokens = per_gpu + gpus + 1, *running_squares = running_tokens + gpus;
    int32_t *busy_gpu = (int32_t *)(running_squares + gpus), *running = busy_gpu + gpus + 1;
    int64_t busy = 0, idle_count = gpus, joined = 0, formed = 0, turn = 0;
    double timer_s = INFINITY, flush_s = INFINITY;

    for (int32_t gpu = 0; gpu < gpus; gpu++) add_idle(idle, words, gpu);
    busy_until_s[0] = INFINITY;
    for (int64_t i = 0; i < queues; i++) {
        q.waiting[i] = 0;
        q.head[i] = r->queue_start[i];
        q.head_index[i] = n;
        q.formed_s[i] = INFINITY;
        q.is_ready[i] = 0;
        q.limit[i] = next_limit(rule, parameters, states + i * width, 0, 0.0, 0.0, 0.0);
    }

    while (joined < n || busy > 0 || q.ready_count > 0 || timer_s < INFINITY) {
        double now_s = busy_until_s[0];
        if (idle_count == 0) {
            while (joined < n && r->arrival_s[joined] < now_s) {
                int64_t queue = r->queue_of[joined];
                q.waiting[queue]++;
                if (!q.is_ready[queue]) timer_s = refresh(select, fill, timeout_s, r, &q, queue, r->arrival_s[joined], flush_s, timer_s);
                joined++;
            }
        } else {
            if (joined < n && r->arrival_s[joined] < now_s) now_s = r->arrival_s[joined];
            now_s = LEAST(now_s, timer_s);
        }

        while (busy > 0 && busy_until_s[0] == now_s) {
            int32_t gpu = busy_gpu[0];
            busy = pop_busy(busy_until_s, busy_gpu, busy);
            add_idle(idle, words, gpu);
            idle_count++;
            if (rule == FIXED) continue;
            const Batch *done = batches + running[gpu];
            int64_t queue = done->queue, before = q.limit[queue];
            q.limit[queue] = next_limit(rule, parameters, states + queue * width, done->size, running_tokens[gpu], running_squares[gpu], done->step_s);
            if (q.limit[queue] != before && q.waiting[queue] > 0)
                timer_s = refresh(select, fill, timeout_s, r, &q, queue, now_s, flush_s, timer_s);
        }

        while (joined < n && r->arrival_s[joined] == now_s) {
            int64_t queue = r->queue_of[joined];
            q.waiting[queue]++;
            if (!q.is_ready[queue]) timer_s = refresh(select, fill, timeout_s, r, &q, queue, now_s, flush_s, timer_s);
            joined++;
        }

        int flush_now = joined == n && flush_s == INFINITY;
        if (flush_now || timer_s <= now_s) {
            if (flush_now) flush_s = end_s;
            timer_s = INFINITY;
            for (int64_t queue = 0; queue < queues; queue++)
                if (q.waiting[queue] > 0 && (flush_now || !q.is_ready[queue]))
                    timer_s = refresh(select, fill, timeout_s, r, &q, queue, now_s, flush_s, timer_s);
        }

        while (idle_count > 0 && q.ready_count > 0) {
            int64_t queue = select_queue(select, &q, &turn);
            int64_t first = q.head[queue], size = LEAST(q.waiting[queue], q.limit[queue]);
            Measures m = measure(r, first, size);
            if (m.need > capacity) {
                int64_t need = 0, place = first;
                while ((need += (int64_t)r->prompt[place] + r->predicted[place]) <= capacity) place++;
                size = place - first;
                m = measure(r, first, size);
            }
            double step_s = law[1] * (1.0 + law[2] * ((double)size - 1.0) / (double)size);
            double service_s = law[0] + step_s * (double)(law[3] > 0.5 ? m.longest_total : m.longest_output);
            double finish_s = now_s + service_s;

            int32_t gpu = take_lowest_idle(idle, words);
            idle_count--;
            busy = push_busy(busy_until_s, busy_gpu, busy, finish_s, gpu);
            running[gpu] = (int32_t)formed;
            running_tokens[gpu] = (double)m.tokens;
            running_squares[gpu] = (double)m.squares;
            const double *state = states + queue * width;
            batches[formed++] = (Batch){now_s, finish_s, law[0], step_s, (float)state[LOW], (float)state[HIGH], (int32_t)first, (int32_t)size,
                                        (int32_t)q.limit[queue], gpu, (int32_t)state[B_MEM], (int32_t)state[B_SLA], (int32_t)queue};
            q.head[queue] += size;
            q.waiting[queue] -= size;
            timer_s = refresh(select, fill, timeout_s, r, &q, queue, now_s, flush_s, timer_s);
        }
    }
    return formed;
}

#define SCHEDULER(name, rule, select, fill)                                                                                       \
    int64_t name(const Requests *r, int32_t gpus, int64_t capacity, const double *law, const double *parameters, double *states,  \
                 int64_t width, double timeout_s, int64_t *per_queue, double *per_gpu, uint64_t *idle, int64_t words, Batch *batches) \
    {                                                                                                                             \
        return simulate(rule, select, fill, r, gpus, capacity, law, parameters, states, width, timeout_s, per_queue, per_gpu, idle, words, batches); \
    }

SCHEDULER(multi_bin_dynamic, DYNAMIC, ROUND_ROBIN, GREEDY)
SCHEDULER(multi_bin_static, FIXED, FIRST_FORMED, FULL)
SCHEDULER(static_fifo, FIXED, ROUND_ROBIN, GREEDY)
SCHEDULER(dynamic_no_bins, DYNAMIC, ROUND_ROBIN, GREEDY)
SCHEDULER(longest_queue, DYNAMIC, LONGEST_QUEUE, GREEDY)
SCHEDULER(oldest_head_timeout, DYNAMIC, OLDEST_HEAD, TIMEOUT)
