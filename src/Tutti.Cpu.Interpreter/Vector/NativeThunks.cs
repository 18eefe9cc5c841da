using System.Runtime.InteropServices;
using Iced.Intel;
using Tutti.Host;

namespace Tutti.Cpu.Interpreter;

/// <summary>What makes one thunk differ from another.</summary>
/// <param name="Code">The instruction.</param>
/// <param name="Immediate">Its immediate byte, or the number of its ST(i) operand.</param>
/// <param name="InMemory">VEX only: its r/m operand is in memory.</param>
internal readonly record struct ThunkKey(Code Code, byte Immediate, bool InMemory = false);

/// <summary>
/// The emitted thunks of the whole process: each runs one guest instruction on the host processor. Made when the first
/// such instruction is decoded and kept for good; their number is bounded by the instruction set.
/// </summary>
internal static unsafe class NativeThunks
{
    /// <summary>Bytes; all thunks there can be (some 62,000, mostly imm8 variants) take less than two thirds. Untouched pages cost nothing.</summary>
    public const long Capacity = 16 << 20;

    private const int Alignment = 16;

    private static readonly Lock Gate = new();
    private static readonly Dictionary<ThunkKey, nint> Made = [];
    private static ExecutableMapping? _mapping;
    private static long _used;

    /// <summary>Bytes taken.</summary>
    public static long Used => Volatile.Read(ref _used);

    /// <summary>Gets the mapping, so that a host that forbids it says so before a guest runs.</summary>
    /// <exception cref="HostException">The host forbids executable mappings.</exception>
    public static void Prepare()
    {
        lock (Gate)
        {
            _mapping ??= new ExecutableMapping(Capacity);
        }
    }

    /// <summary>Address of a thunk, made with <paramref name="build"/> when it is new; 0 when there is no room left.</summary>
    /// <exception cref="HostException">The host forbids executable mappings.</exception>
    public static nint Get(ThunkKey key, in Instruction instruction, Func<Instruction, List<Instruction>> build)
    {
        lock (Gate)
        {
            if (!Made.TryGetValue(key, out nint address))
            {
                address = Place(Encode(build(instruction)));
                Made[key] = address;
            }

            return address;
        }
    }

    /// <summary>Address of a thunk whose bytes are known; 0 when there is no room left. For those that each start needs: the encoder's tables take their time and room.</summary>
    /// <exception cref="HostException">The host forbids executable mappings.</exception>
    public static nint Get(ThunkKey key, ReadOnlySpan<byte> code)
    {
        lock (Gate)
        {
            if (!Made.TryGetValue(key, out nint address))
            {
                address = Place(code);
                Made[key] = address;
            }

            return address;
        }
    }

    /// <summary>The bytes of instructions that do not depend on where they lie.</summary>
    internal static ReadOnlySpan<byte> Encode(List<Instruction> instructions)
    {
        var code = new Bytes();
        Encoder encoder = Encoder.Create(64, code);
        foreach (Instruction instruction in instructions)
        {
            encoder.Encode(instruction, (ulong)code.List.Count);
        }

        return CollectionsMarshal.AsSpan(code.List);
    }

    private static nint Place(ReadOnlySpan<byte> code)
    {
        _mapping ??= new ExecutableMapping(Capacity);
        if (_used + code.Length > _mapping.Length)
        {
            return 0;
        }

        // SAFETY: the bytes fit; nothing runs at this place before its address is handed out below.
        nint start = _mapping.ExecuteAddress + (nint)_used;
        code.CopyTo(new Span<byte>((byte*)_mapping.WriteAddress + _used, code.Length));
        _used += (code.Length + Alignment - 1) & -Alignment;
        return start;
    }

    private sealed class Bytes : CodeWriter
    {
        public List<byte> List { get; } = [];

        public override void WriteByte(byte value) => List.Add(value);
    }
}
