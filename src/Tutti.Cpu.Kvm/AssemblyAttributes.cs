using System.Runtime.CompilerServices;

// Every signature in KvmCalls is blittable; this makes the compiler refuse one that is not.
[assembly: DisableRuntimeMarshalling]
