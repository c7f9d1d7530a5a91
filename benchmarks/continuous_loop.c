/* The plain case of continuous batching in C: one queue a GPU in order of arrival, whole prefills, memory reserved for lengths
   that are known, a fixed limit, the GPU with fewest requests. The same events, sums and histogram as mbexp's loop, in the same
   order of operations. All memory is given by the caller. */
#include <math.h>
#include <stdint.h>

#define INLINE static inline __attribute__((always_inline))
#define LEAST(a, b) ((a) < (b) ? (a) : (b))
#define MOST(a, b) ((a) > (b) ? (a) : (b))
enum { EMPTY, DECODE, PREFILL, NOBODY = -1, PER_OCTAVE = 512, LOWEST_OCTAVE = -20, NUM_BINS = 41 * 512 };
static const int64_t NONE = INT64_C(1) << 62;

typedef struct { int64_t joined_step; int32_t prompt, output, age_group, next; } Request;
typedef struct { int64_t step, request; } Leave;
typedef struct { double age_s; int64_t members; } Ages;
typedef struct { double time_s; int64_t gpu; } Event;
typedef struct {
    int64_t room; double boundary_s, boundary, start_s, first_s, growth_s, event_s;
    int64_t iterations, done, planned, prompt_tokens, index, place, running, decoding, context, held, step, groups, leaving;
    int32_t kind, changed, at_boundary, first_prefill, last_prefill, head, tail, unused;
    double busy_s, prefill_s, running_s, limit_s, kv_token_s;
    int64_t prefills, decoded_tokens, prefill_tokens, held_max, running_max;
} Gpu;
typedef struct { double sum_s, max_s; int64_t count, above; } Gaps;

typedef struct {
    int64_t n, gpus, capacity, limit, slots, leaves;
    double token_sla_s;
    const double *price, *arrival_s;
    const int32_t *prompt, *output;
    Request *requests; Gpu *gpu; Leave *leave; Ages *ages; Event *event; int64_t *standing, *loads, *histogram;
    double *start_s, *first_token_s, *finish_s; int32_t *gpu_of; Gaps *gaps;
    int64_t events, stands, instants;
} Run;

INLINE double time_of(double first_s, double growth_s, int64_t n) { double x = (double)n; return x * first_s + growth_s * (0.5 * x * (x - 1.0)); }
INLINE double boundary_at(const Gpu *g, double k) { return g->start_s + (k * g->first_s + g->growth_s * (0.5 * k * (k - 1.0))); }

/* Heaps by a key, then by an index. */
INLINE void event_up(Run *r, int64_t place, double time_s, int64_t gpu)
{
    while (place > 0) {
        int64_t parent = (place - 1) >> 1;
        Event above = r->event[parent];
        if (above.time_s < time_s || (above.time_s == time_s && above.gpu < gpu)) break;
        r->event[place] = above;
        r->gpu[above.gpu].place = place;
        place = parent;
    }
    r->event[place] = (Event){time_s, gpu};
    r->gpu[gpu].place = place;
}

INLINE int64_t pop_event(Run *r)
{
    int64_t first = r->event[0].gpu, count = --r->events, place = 0, child = 1;
    r->gpu[first].place = NOBODY;
    if (count == 0) return first;
    Event last = r->event[count];
    while (child < count) {
        Event below = r->event[child];
        if (child + 1 < count) {
            Event other = r->event[child + 1];
            if (other.time_s < below.time_s || (other.time_s == below.time_s && other.gpu < below.gpu)) { child++; below = other; }
        }
        if (last.time_s < below.time_s || (last.time_s == below.time_s && last.gpu < below.gpu)) break;
        r->event[place] = below;
        r->gpu[below.gpu].place = place;
        place = child;
        child = 2 * place + 1;
    }
    r->event[place] = last;
    r->gpu[last.gpu].place = place;
    return first;
}

INLINE int leaves_before(Leave a, Leave b) { return a.step < b.step || (a.step == b.step && a.request < b.request); }

INLINE void push_leave(Leave *heap, int64_t place, Leave one)
{
    while (place > 0 && !leaves_before(heap[(place - 1) >> 1], one)) { heap[place] = heap[(place - 1) >> 1]; place = (place - 1) >> 1; }
    heap[place] = one;
}

INLINE void pop_leave(Leave *heap, int64_t count)
{
    Leave last = heap[count];
    int64_t place = 0, child = 1;
    while (child < count) {
        if (child + 1 < count && leaves_before(heap[child + 1], heap[child])) child++;
        if (leaves_before(last, heap[child])) break;
        heap[place] = heap[child];
        place = child;
        child = 2 * place + 1;
    }
    heap[place] = last;
}

/* A tree over the requests given to each GPU: the lowest of those with fewest. */
INLINE void change_load(Run *r, int64_t gpu, int64_t change)
{
    int64_t node = r->leaves + gpu;
    r->loads[node] += change;
    while ((node >>= 1) > 0) {
        int64_t least = LEAST(r->loads[2 * node], r->loads[2 * node + 1]);
        if (r->loads[node] == least) return;
        r->loads[node] = least;
    }
}

INLINE int64_t shortest(const Run *r)
{
    int64_t node = 1;
    while (node < r->leaves) { node *= 2; if (r->loads[node] != r->loads[node >> 1]) node++; }
    return node - r->leaves;
}

INLINE int64_t bin_of(double gap_s)
{
    int exponent;
    double mantissa = frexp(gap_s, &exponent);
    int64_t bin = (int64_t)(exponent - 1 - LOWEST_OCTAVE) * PER_OCTAVE + (int64_t)((mantissa - 0.5) * (2 * PER_OCTAVE));
    return gap_s > 0.0 ? LEAST(MOST(bin, 0), NUM_BINS - 1) : 0;
}

static double edge_s(int64_t bin) { return ldexp(1.0 + (double)(bin % PER_OCTAVE) / PER_OCTAVE, (int)(bin / PER_OCTAVE) + LOWEST_OCTAVE); }

INLINE void add_gap(Run *r, double gap_s, int64_t weight)
{
    Gaps *g = r->gaps;
    g->count += weight;
    g->sum_s += (double)weight * gap_s;
    g->max_s = MOST(g->max_s, gap_s);
    if (gap_s > r->token_sla_s) g->above += weight;
    r->histogram[bin_of(gap_s)] += weight;
}

static int64_t count_above(double first_s, double growth_s, int64_t begin, int64_t end, double limit_s)
{
    int low = first_s + growth_s * (double)begin > limit_s, high = first_s + growth_s * (double)(end - 1) > limit_s;
    if (low == high) return low ? end - begin : 0;
    int64_t cross = LEAST(MOST((int64_t)((limit_s - first_s) / growth_s), begin), end - 1);
    while (cross > begin && (first_s + growth_s * (double)(cross - 1) > limit_s) != low) cross--;
    while ((first_s + growth_s * (double)cross > limit_s) == low) cross++;
    return low ? cross - begin : end - cross;
}

INLINE void add_gaps(Run *r, double first_s, double growth_s, int64_t begin, int64_t end, int64_t weight)
{
    Gaps *g = r->gaps;
    int64_t number = end - begin, done = begin;
    g->count += weight * number;
    g->sum_s += (double)weight * ((double)number * first_s + growth_s * (0.5 * (double)(begin + end - 1) * (double)number));
    double low_s = first_s + growth_s * (double)begin, high_s = first_s + growth_s * (double)(end - 1);
    g->max_s = MOST(MOST(g->max_s, low_s), high_s);
    g->above += weight * count_above(first_s, growth_s, begin, end, r->token_sla_s);
    int64_t bin = bin_of(low_s), last = bin_of(high_s);
    while (bin != last) {
        int64_t beyond = growth_s > 0.0 ? begin + (int64_t)ceil((edge_s(bin + 1) - low_s) / growth_s)
                                        : begin + (int64_t)floor((edge_s(bin) - low_s) / growth_s) + 1;
        beyond = LEAST(MOST(beyond, done + 1), end);
        r->histogram[bin] += weight * (beyond - done);
        done = beyond;
        if (done == end) return;
        bin = bin_of(first_s + growth_s * (double)done);
    }
    r->histogram[last] += weight * (end - done);
}

INLINE void account(Run *r, Gpu *g)
{
    int64_t before = g->done, after = g->planned, number = after - before, size = g->decoding;
    double seconds = time_of(g->first_s, g->growth_s, after) - time_of(g->first_s, g->growth_s, before);
    Ages *ages = r->ages + g->index * r->slots;
    double context = (double)(g->context + g->prompt_tokens);
    g->busy_s += seconds;
    g->running_s += (double)g->running * seconds;
    g->limit_s += (double)r->limit * seconds;
    g->done = after;
    if (g->kind == PREFILL) {
        g->prefills++;
        g->prefill_s += seconds;
        g->kv_token_s += context * seconds;
        for (int64_t i = 0; i < g->groups; i++) ages[i].age_s += seconds;
        return;
    }
    double ones = (double)number, firsts = 0.5 * ones * (ones - 1.0), squares = firsts * (2.0 * ones - 1.0) / 3.0;
    double first_s = g->first_s + g->growth_s * (double)before;
    g->kv_token_s += context * (ones * first_s + g->growth_s * firsts) + (double)size * (first_s * firsts + g->growth_s * squares);
    int64_t begin = before;
    if (begin == 0) {
        for (int64_t i = 0; i < g->groups; i++)
            if (ages[i].members > 0) add_gap(r, ages[i].age_s + g->first_s, ages[i].members);
        g->groups = 1;
        ages[0] = (Ages){0.0, size};
        begin = 1;
    }
    if (after > begin) add_gaps(r, g->first_s, g->growth_s, begin, after, size);
    g->decoded_tokens += size * number;
    g->context += size * number;
    g->step += number;
}

INLINE void finish(Run *r, Gpu *g, int64_t request, double now_s)
{
    const Request *q = r->requests + request;
    g->held -= q->prompt + q->output;
    g->running--;
    g->changed = 1;
    r->finish_s[request] = now_s;
    change_load(r, g->index, -1);
}

INLINE void end(Run *r, Gpu *g, double now_s)
{
    Leave *leave = r->leave + g->index * r->slots;
    Ages *ages = r->ages + g->index * r->slots;
    account(r, g);
    if (g->kind == PREFILL) {
        g->prefill_tokens += g->prompt_tokens;
        for (int32_t request = g->first_prefill; request != NOBODY; request = r->requests[request].next) {
            Request *q = r->requests + request;
            g->changed = 1;
            r->first_token_s[request] = now_s;
            if (q->output == 1) { finish(r, g, request, now_s); continue; }
            q->joined_step = g->step;
            g->decoding++;
            g->context += q->prompt + 1;
            push_leave(leave, g->leaving++, (Leave){g->step + q->output - 1, request});
            int64_t last = g->groups - 1;
            if (last < 0 || ages[last].age_s != 0.0) { ages[++last] = (Ages){0.0, 0}; g->groups = last + 1; }
            ages[last].members++;
            q->age_group = (int32_t)last;
        }
        g->first_prefill = g->last_prefill = NOBODY;
    }
    while (g->leaving > 0 && leave[0].step == g->step) {
        int64_t request = leave[0].request;
        const Request *q = r->requests + request;
        pop_leave(leave, --g->leaving);
        g->decoding--;
        g->context -= q->prompt + q->output;
        ages[q->joined_step < g->step ? 0 : q->age_group].members--;
        finish(r, g, request, now_s);
    }
    g->room = NOBODY;
}

INLINE void start(Run *r, Gpu *g, double now_s)
{
    int64_t tokens = 0, prompts = 0;
    double squares = 0.0;
    while (g->running < r->limit && g->head != NOBODY) {
        int32_t request = g->head;
        Request *q = r->requests + request;
        int64_t need = (int64_t)q->prompt + q->output;
        if (g->held + need > r->capacity) break;
        g->head = q->next;
        q->next = NOBODY;
        if (g->last_prefill == NOBODY) g->first_prefill = request; else r->requests[g->last_prefill].next = request;
        g->last_prefill = request;
        g->running++;
        g->held += need;
        r->start_s[request] = now_s;
        r->gpu_of[request] = (int32_t)g->index;
        tokens += q->prompt;
        squares += (double)q->prompt * (double)q->prompt;
        prompts++;
    }
    g->held_max = MOST(g->held_max, g->held);
    g->running_max = MOST(g->running_max, g->running);
    g->room = g->running < r->limit ? r->capacity - g->held : NOBODY;
    if (g->changed || prompts > 0 || g->done == g->iterations) {
        if (g->running == 0) {
            g->kind = EMPTY;
        } else {
            const double *p = r->price;
            double seconds = p[0], compute_s = 0.0, context_s = p[4];
            g->kind = prompts > 0 ? PREFILL : DECODE;
            g->growth_s = 0.0;
            if (prompts > 0) {
                context_s += p[10];
                compute_s += p[5] * (double)tokens + p[6] * (double)prompts;
                seconds += p[9] + p[7] * squares;
                g->iterations = 1;
            } else {
                double b = (double)g->decoding;
                seconds += p[1] * b + p[8] * (b - 1) / b;
                compute_s = p[3] * b;
                g->growth_s = context_s * b;
                g->iterations = r->leave[g->index * r->slots].step - g->step;
            }
            g->first_s = seconds + MOST(p[2], compute_s) + context_s * (double)(prompts > 0 ? 0 : g->context);
            g->start_s = now_s;
            g->done = 0;
            g->prompt_tokens = tokens;
        }
        g->changed = 0;
    }
    g->planned = g->iterations;
    g->boundary = (double)g->done + 1.0;
    g->boundary_s = boundary_at(g, g->boundary);
    if (g->kind == EMPTY) return;
    g->event_s = boundary_at(g, (double)g->planned);
    event_up(r, r->events++, g->event_s, g->index);
}

INLINE void look_ahead(Gpu *g, double time_s)
{
    double step_s = g->first_s + g->growth_s * g->boundary;
    if (step_s > 0.0 && g->growth_s >= 0.0) {
        double passed = floor((time_s - g->boundary_s) / step_s) + 1.0;
        double guess = LEAST(g->boundary + MOST(passed, 0.0), (double)g->iterations), at_s = boundary_at(g, guess);
        if (0.0 < at_s - time_s && at_s - time_s < 0.99 * step_s) { g->boundary = guess; g->boundary_s = at_s; return; }
    }
    double wait_s = time_s - g->start_s;
    int64_t known = (int64_t)g->boundary, found = known;
    if (wait_s > 0.0) {
        double slope = g->first_s - 0.5 * g->growth_s;
        double divisor = slope + sqrt(MOST(slope * slope + 2.0 * g->growth_s * wait_s, 0.0)), last = (double)g->iterations;
        double guess = divisor > 0.0 ? 2.0 * wait_s / divisor : last;
        found = LEAST(MOST((int64_t)LEAST(guess, last), known), g->iterations);
    }
    while (found > known && boundary_at(g, (double)(found - 1)) >= time_s) found--;
    while (found < g->iterations && boundary_at(g, (double)found) < time_s) found++;
    g->boundary = (double)found;
    g->boundary_s = boundary_at(g, g->boundary);
}

INLINE void stand(Run *r, Gpu *g)
{
    int64_t place = r->stands++;
    g->at_boundary = 1;
    while (place > 0 && r->standing[place - 1] > g->index) { r->standing[place] = r->standing[place - 1]; place--; }
    r->standing[place] = g->index;
}

void simulate(Run *r)
{
    double now_s = -INFINITY;
    int64_t joined = 0;
    r->events = r->stands = r->instants = 0;
    for (int64_t i = 0; i < r->n; i++) r->requests[i] = (Request){0, r->prompt[i], r->output[i], 0, NOBODY};
    for (int64_t i = 0; i < r->gpus; i++) {
        Gpu blank = {.room = r->capacity, .index = i, .place = NOBODY, .first_prefill = NOBODY, .last_prefill = NOBODY, .head = NOBODY, .tail = NOBODY};
        r->gpu[i] = blank;
    }
    for (int64_t i = 0; i < 2 * r->leaves; i++) r->loads[i] = NONE;
    for (int64_t i = 0; i < r->gpus; i++) change_load(r, i, -NONE);
    for (;;) {
        double event_s = r->events ? r->event[0].time_s : INFINITY, arrival_s = joined < r->n ? r->arrival_s[joined] : INFINITY;
        if (r->stands == 0) {
            if (joined > 0) r->instants++;
            now_s = LEAST(event_s, arrival_s);
            if (now_s == INFINITY) return;
        }
        Gpu *g;
        if (event_s == now_s) {
            g = r->gpu + pop_event(r);
            end(r, g, now_s);
            int alone = r->stands == 0 && arrival_s > now_s && (r->events == 0 || r->event[0].time_s > now_s);
            if (!alone) { stand(r, g); continue; }
        } else if (arrival_s == now_s) {
            int32_t request = (int32_t)joined++;
            g = r->gpu + shortest(r);
            change_load(r, g->index, 1);
            if (g->head == NOBODY) g->head = request; else r->requests[g->tail].next = request;
            g->tail = request;
            if (g->at_boundary) continue;
            if (g->kind == EMPTY) { stand(r, g); continue; }
            const Request *head = r->requests + g->head;
            if (g->room < 0 || (int64_t)head->prompt + head->output > g->room) continue;
            look_ahead(g, now_s);
            if (g->boundary_s < g->event_s) {
                g->planned = (int64_t)g->boundary;
                g->event_s = g->boundary_s;
                event_up(r, g->place, g->event_s, g->index);
            }
            continue;
        } else {
            g = r->gpu + r->standing[0];
            r->stands--;
            for (int64_t i = 0; i < r->stands; i++) r->standing[i] = r->standing[i + 1];
            g->at_boundary = 0;
        }
        start(r, g, now_s);
    }
}
