/* profile.c - a QEMU plugin: how often each instruction of the guest ran.
 *
 *   qemu-system-arm ... -plugin profile.so,out=FILE      FILE: lines "address count"
 *
 * Distributions ship QEMU without its plugin header, so what is used of the interface (version 1, QEMU 4.2 to
 * 8) is declared here. Source: QEMU's documentation, "QEMU TCG Plugins". */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

typedef uint64_t plugin_id;
typedef struct qemu_plugin_tb block;
typedef struct qemu_plugin_insn instruction;

void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id id, void (*translated)(plugin_id, block *));
void qemu_plugin_register_atexit_cb(plugin_id id, void (*leaving)(plugin_id, void *), void *data);
void qemu_plugin_register_vcpu_insn_exec_inline(instruction *i, int operation, void *counter, uint64_t add);
size_t qemu_plugin_tb_n_insns(const block *b);
instruction *qemu_plugin_tb_get_insn(const block *b, size_t index);
uint64_t qemu_plugin_insn_vaddr(const instruction *i);

EXPORT int qemu_plugin_version = 1;
EXPORT int qemu_plugin_install(plugin_id id, const void *info, int argc, char **argv);

enum {
    ADD_U64 = 0,
    BUCKETS = 1 << 16
};

typedef struct counter {
    uint64_t address;
    uint64_t count;
    struct counter *next;
} counter;

static counter *bucket[BUCKETS];
static const char *path;

static counter *counter_of(uint64_t address)
{
    counter **head = &bucket[address / 2 % BUCKETS], *c;
    for (c = *head; c; c = c->next)
        if (c->address == address) return c;
    c = (counter *)calloc(1, sizeof *c);
    if (!c) abort();
    c->address = address;
    c->next = *head;
    return *head = c;
}

static void translated(plugin_id id, block *b)
{
    const size_t n = qemu_plugin_tb_n_insns(b);
    size_t i;
    (void)id;
    for (i = 0; i < n; ++i) {
        instruction *in = qemu_plugin_tb_get_insn(b, i);
        qemu_plugin_register_vcpu_insn_exec_inline(in, ADD_U64, &counter_of(qemu_plugin_insn_vaddr(in))->count, 1);
    }
}

static void leaving(plugin_id id, void *data)
{
    FILE *file = fopen(path, "w");
    size_t i;
    counter *c;
    (void)id;
    (void)data;
    if (!file) abort();
    for (i = 0; i < BUCKETS; ++i)
        for (c = bucket[i]; c; c = c->next)
            fprintf(file, "%llx %llu\n", (unsigned long long)c->address, (unsigned long long)c->count);
    fclose(file);
}

EXPORT int qemu_plugin_install(plugin_id id, const void *info, int argc, char **argv)
{
    (void)info;
    if (argc != 1 || strncmp(argv[0], "out=", 4)) return 1;
    path = strdup(argv[0] + 4);
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_atexit_cb(id, leaving, NULL);
    return 0;
}
