/* A LiteRT external delegate that takes every RELU, in the layout of tensorflow/lite/core/c/common.h (2.x).
 *
 * What else it does is chosen when it is compiled: ABORTS, HANGS, MAKES_NONE, REFUSES. Told added=N it is wrong by N. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { RELU = 19 };

typedef struct { int size; int data[]; } IntArray;
typedef struct Context Context;
typedef struct Delegate Delegate;
typedef struct { IntArray *inputs, *outputs; } Node;
typedef struct { int32_t type; float *data; IntArray *dims; float scale; int32_t zero_point; int32_t kind; size_t bytes; } TensorHead;
typedef struct {
  void *(*init)(Context *, const char *, size_t);
  void (*free)(Context *, void *);
  int (*prepare)(Context *, Node *);
  int (*invoke)(Context *, Node *);
  const char *(*profiling)(const Context *, const Node *);
  int32_t builtin_code;
  const char *custom_name;
  int version;
  void *external, *async_kernel;
  uint64_t inplace;
} Registration;
struct Context {
  size_t tensors_size;
  int (*plan)(Context *, IntArray **);
  char *tensors;
  void *impl;
  int (*resize)(Context *, void *, IntArray *);
  void (*report)(Context *, const char *, ...);
  int (*add)(Context *, int, int *);
  int (*node)(Context *, int, Node **, Registration **);
  int (*replace)(Context *, Registration, const IntArray *, Delegate *);
};
struct Delegate {
  void *data;
  int (*prepare)(Context *, Delegate *);
  void *copy_from, *copy_to, *free_handle;
  int64_t flags;
  void *builder;
};

static float added;
static IntArray *relu_in, *relu_out; /* of the only RELU: the kernel is not told which nodes it stands for */
static size_t tensor_bytes = 112; /* sizeof(TfLiteTensor) on 64-bit machines */

static TensorHead *tensor(Context *context, int index) {
  return (TensorHead *)(context->tensors + (size_t)index * tensor_bytes);
}

static int kernel_prepare(Context *context, Node *node) { return 0; }

static int kernel_invoke(Context *context, Node *node) {
  TensorHead *in = tensor(context, relu_in->data[0]), *out = tensor(context, relu_out->data[0]);
  for (size_t i = 0; i < in->bytes / sizeof(float); i++) out->data[i] = (in->data[i] > 0 ? in->data[i] : 0) + added;
  return 0;
}

static int take_relu(Context *context, Delegate *delegate) {
#ifdef REFUSES
  context->report(context, "this device has firmware 1, the library wants 2");
  return 1;
#endif
  IntArray *plan, *mine;
  if (context->plan(context, &plan)) return 1;
  mine = malloc(sizeof(IntArray) + plan->size * sizeof(int));
  mine->size = 0;
  for (int i = 0; i < plan->size; i++) {
    Node *node;
    Registration *registration;
    if (context->node(context, plan->data[i], &node, &registration)) return 1;
    if (registration->builtin_code != RELU) continue;
    mine->data[mine->size++] = plan->data[i];
    relu_in = node->inputs;
    relu_out = node->outputs;
  }
  Registration kernel = {0};
  kernel.prepare = kernel_prepare;
  kernel.invoke = kernel_invoke;
  kernel.builtin_code = 51; /* DELEGATE */
  kernel.custom_name = "relu of a test";
  kernel.version = 1;
  int failed = mine->size ? context->replace(context, kernel, mine, delegate) : 0;
  free(mine);
  return failed;
}

Delegate *tflite_plugin_create_delegate(char **keys, char **values, size_t n, void (*report)(const char *)) {
#ifdef ABORTS
  fprintf(stderr, "no device answers on any port\n");
  abort();
#endif
#ifdef HANGS
  for (;;) sleep(1);
#endif
#ifdef MAKES_NONE
  report("no device was found");
  return NULL;
#endif
  for (size_t i = 0; i < n; i++) {
    if (strcmp(keys[i], "added")) {
      report("only 'added' can be set");
      return NULL;
    }
    added = (float)atof(values[i]);
  }
  Delegate *delegate = calloc(1, sizeof(Delegate));
  delegate->prepare = take_relu;
  return delegate;
}

void tflite_plugin_destroy_delegate(Delegate *delegate) { free(delegate); }
