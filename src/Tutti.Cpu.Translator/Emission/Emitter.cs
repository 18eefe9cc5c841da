using System.Runtime.Intrinsics.X86;

namespace Tutti.Cpu.Translator;

/// <summary>Writes host instructions, one method an operation; those that may stand inside guest code leave the flags alone.</summary>
/// <remarks>SAFETY: <see cref="Begin"/> says how many bytes there are; whoever emits asks for enough room before.</remarks>
internal sealed unsafe class Emitter
{
    private static readonly bool HasFastLoop = IsAmd();

    private byte* _at;

    /// <summary>What must be added to a write address for the address at which the byte runs.</summary>
    private long _toExecute;

    /// <summary>Where the next byte will run.</summary>
    public long Here => (long)_at + _toExecute;

    public void Begin(byte* write, long execute)
    {
        _at = write;
        _toExecute = execute - (long)write;
    }

    public void Byte(int value) => *_at++ = (byte)value;

    public void Bytes(ReadOnlySpan<byte> bytes)
    {
        bytes.CopyTo(new Span<byte>(_at, bytes.Length));
        _at += bytes.Length;
    }

    public void Int32(int value)
    {
        *(int*)_at = value;
        _at += 4;
    }

    /// <summary>MOV r64, r64.</summary>
    public void Move(int to, int from)
    {
        if (to != from)
        {
            Rex(true, from, 0, to);
            Byte(0x89);
            Byte(0xC0 | ((from & 7) << 3) | (to & 7));
        }
    }

    /// <summary>MOV r32, r32: clears the upper half.</summary>
    public void Move32(int to, int from)
    {
        Rex(false, from, 0, to);
        Byte(0x89);
        Byte(0xC0 | ((from & 7) << 3) | (to & 7));
    }

    /// <summary>MOV r16, r16: the rest of the register stays.</summary>
    public void Move16(int to, int from)
    {
        Byte(0x66);
        Move32(to, from);
    }

    /// <summary>MOV r64, simm32.</summary>
    public void MoveSigned(int to, int value)
    {
        Rex(true, 0, 0, to);
        Byte(0xC7);
        Byte(0xC0 | (to & 7));
        Int32(value);
    }

    /// <summary>MOV r32, imm32.</summary>
    public void MoveImmediate(int to, int value)
    {
        if (to >= 8)
        {
            Byte(0x41);
        }

        Byte(0xB8 | (to & 7));
        Int32(value);
    }

    /// <summary>MOV r64, [RSP+offset].</summary>
    public void Load(int to, int offset) => StateOperation(true, 0x8B, to, offset);

    /// <summary>MOV r32, [RSP+offset].</summary>
    public void Load32(int to, int offset) => StateOperation(false, 0x8B, to, offset);

    /// <summary>MOV [RSP+offset], r64.</summary>
    public void Store(int offset, int from) => StateOperation(true, 0x89, from, offset);

    /// <summary>MOV [RSP+offset], r32.</summary>
    public void Store32(int offset, int from) => StateOperation(false, 0x89, from, offset);

    /// <summary>MOV DWORD [RSP+offset], imm32.</summary>
    public void StoreImmediate32(int offset, int value)
    {
        StateOperation(false, 0xC7, 0, offset);
        Int32(value);
    }

    /// <summary>MOV r64, [RSP+index*8+offset].</summary>
    public void LoadTable(int to, int index, int offset)
    {
        Rex(true, to, index, HostRegister.State);
        Byte(0x8B);
        TableOperand(to, index, offset);
    }

    /// <summary>Bytes of <see cref="JumpTable"/>, with R15 as the index.</summary>
    public const int JumpTableLength = 8;

    /// <summary>Bytes of <see cref="ReturnTable"/>, with R15 as the index.</summary>
    public const int ReturnTableLength = 9;

    /// <summary>JMP [RSP+index*8+offset].</summary>
    public void JumpTable(int index, int offset)
    {
        if (index >= 8)
        {
            Byte(0x42);
        }

        Byte(0xFF);
        TableOperand(4, index, offset);
    }

    /// <summary>MOV [RSP+index*8+offset], r64.</summary>
    public void StoreTable(int index, int offset, int from)
    {
        Rex(true, from, index, HostRegister.State);
        Byte(0x89);
        TableOperand(from, index, offset);
    }

    /// <summary>Goes on at [RSP+index*8+offset], as the last CALL that has not come back foretells: PUSH, RET.</summary>
    public void ReturnTable(int index, int offset)
    {
        Rex(false, 0, index, 0);
        Byte(0xFF);
        TableOperand(6, index, offset);
        Byte(0xC3);
    }

    /// <summary>POP [RSP+index*8+offset]; the address counts from RSP after the pop.</summary>
    public void PopTable(int index, int offset)
    {
        Rex(false, 0, index, 0);
        Byte(0x8F);
        TableOperand(0, index, offset);
    }

    /// <summary>CALL rel32 to a place that is not known yet; gives where its distance stands.</summary>
    public long CallLater()
    {
        Byte(0xE8);
        Int32(0);
        return Here - 4;
    }

    /// <summary>LEA r64, [RIP+displacement] of a place that is not known yet; gives where the displacement stands.</summary>
    public long LeaLater(int to)
    {
        Rex(true, to, 0, 0);
        Byte(0x8D);
        Byte(((to & 7) << 3) | 5);
        Int32(0);
        return Here - 4;
    }

    /// <summary>LEA r64, [base+displacement].</summary>
    public void Lea(int to, int baseRegister, int displacement)
    {
        if (displacement == 0)
        {
            Move(to, baseRegister);
            return;
        }

        Rex(true, to, 0, baseRegister);
        Byte(0x8D);
        Operand(to, baseRegister, displacement);
    }

    /// <summary>LEA r64, [base+index*2^scale+displacement].</summary>
    public void Lea(int to, int baseRegister, int index, int scale, int displacement, bool is64 = true)
    {
        Rex(is64, to, index, baseRegister);
        Byte(0x8D);
        Operand(to, baseRegister, index, scale, displacement);
    }

    /// <summary>LEA r64, [index*2^scale+displacement].</summary>
    public void LeaIndex(int to, int index, int scale, int displacement, bool is64 = true)
    {
        Rex(is64, to, index, 0);
        Byte(0x8D);
        Byte(((to & 7) << 3) | 4);
        Byte((scale << 6) | ((index & 7) << 3) | 5);
        Int32(displacement);
    }

    /// <summary>LEA r64, [displacement].</summary>
    public void LeaAbsolute(int to, int displacement, bool is64 = true)
    {
        Rex(is64, to, 0, 0);
        Byte(0x8D);
        Byte(((to & 7) << 3) | 4);
        Byte(0x25);
        Int32(displacement);
    }

    /// <summary>PEXT r64, r64, [RSP+offset]: the bits of the source that the mask has, moved together.</summary>
    public void Extract(int to, int from, int maskOffset)
    {
        Byte(0xC4);
        Byte(((to >> 3) == 0 ? 0x80 : 0) | 0x60 | 2);
        Byte(0x80 | ((~from & 15) << 3) | 2);
        Byte(0xF5);
        Operand(to, HostRegister.State, maskOffset);
    }

    /// <summary>RORX r64, r64, imm8.</summary>
    public void RotateRight(int to, int from, int count)
    {
        Byte(0xC4);
        Byte(((to >> 3) == 0 ? 0x80 : 0) | 0x40 | ((from >> 3) == 0 ? 0x20 : 0) | 3);
        Byte(0x80 | (15 << 3) | 3);
        Byte(0xF0);
        Byte(0xC0 | ((to & 7) << 3) | (from & 7));
        Byte(count);
    }

    /// <summary>MULX r64, r64, [RSP+offset]: RDX times the operand; leaves the flags alone.</summary>
    public void Multiply(int high, int low, int offset)
    {
        Byte(0xC4);
        Byte(((high >> 3) == 0 ? 0x80 : 0) | 0x60 | 2);
        Byte(0x80 | ((~low & 15) << 3) | 3);
        Byte(0xF6);
        Operand(high, HostRegister.State, offset);
    }

    /// <summary>CRC32 r64, r64: a hash that leaves the flags alone.</summary>
    public void Crc32(int to, int from)
    {
        Byte(0xF2);
        Rex(true, to, 0, from);
        Bytes([0x0F, 0x38, 0xF1]);
        Byte(0xC0 | ((to & 7) << 3) | (from & 7));
    }

    /// <summary>Makes of the linear address in R14 what <see cref="HotState.JumpMask"/> takes a jump-cache index from, in R15.</summary>
    /// <param name="set">User mode's entries are those of the current address space: see <see cref="AddressSpaces"/>.</param>
    /// <param name="called">What RSP is below the state.</param>
    public void HashJump(TlbSet set, int called = 0)
    {
        if (set == TlbSet.User)
        {
            Load32(HostRegister.Distance, StateLayout.JumpSalt + called);
        }
        else
        {
            MoveImmediate(HostRegister.Distance, 0);
        }

        Crc32(HostRegister.Distance, HostRegister.Address);
    }

    /// <summary>NOT r64, which leaves the flags alone.</summary>
    public void Not(int register)
    {
        Rex(true, 0, 0, register);
        Byte(0xF7);
        Byte(0xD0 | (register & 7));
    }

    /// <summary>MOV r64, [base+index+displacement].</summary>
    /// <param name="index">Less than 0 for none.</param>
    public void LoadMemory(int to, int baseRegister, int index, int displacement) => MoveMemory(0x8B, to, baseRegister, index, displacement);

    /// <summary>MOV [base+index+displacement], r64.</summary>
    /// <param name="index">Less than 0 for none.</param>
    public void StoreMemory(int from, int baseRegister, int index, int displacement) => MoveMemory(0x89, from, baseRegister, index, displacement);

    private void MoveMemory(int opcode, int register, int baseRegister, int index, int displacement)
    {
        Rex(true, register, Math.Max(index, 0), baseRegister);
        Byte(opcode);
        if (index < 0)
        {
            Operand(register, baseRegister, displacement);
        }
        else
        {
            Operand(register, baseRegister, index, 0, displacement);
        }
    }

    /// <summary>Makes the arithmetic flags those of RFLAGS in EAX; changes EAX and ECX.</summary>
    public void LoadFlagsFromEax()
    {
        Bytes([0x89, 0xC1]); // MOV ECX, EAX
        Bytes([0xC1, 0xE9, 11]); // SHR ECX, 11
        Bytes([0x83, 0xE1, 1]); // AND ECX, 1
        Bytes([0x88, 0xC4]); // MOV AH, AL
        Bytes([0x80, 0xC1, 0x7F]); // ADD CL, 7Fh: OF from bit 0
        Bytes([0x9E]); // SAHF: the other five
    }

    /// <summary>MOVZX r32, WORD [RSP+offset].</summary>
    public void Load16(int to, int offset)
    {
        Rex(false, to, 0, HostRegister.State);
        Bytes([0x0F, 0xB7]);
        Operand(to, HostRegister.State, offset);
    }

    /// <summary>MOVSXD r64, r32.</summary>
    public void SignExtend32(int to, int from)
    {
        Rex(true, to, 0, from);
        Byte(0x63);
        Byte(0xC0 | ((to & 7) << 3) | (from & 7));
    }

    /// <summary>SARX r, r, r: shifts arithmetically to the right by the last register's low bits.</summary>
    public void ShiftRightSigned(int to, int from, int count, bool is64)
    {
        Byte(0xC4);
        Byte(((to >> 3) == 0 ? 0x80 : 0) | 0x40 | ((from >> 3) == 0 ? 0x20 : 0) | 2);
        Byte((is64 ? 0x80 : 0) | ((~count & 15) << 3) | 2);
        Byte(0xF7);
        Byte(0xC0 | ((to & 7) << 3) | (from & 7));
    }

    /// <summary>SHRX r64, r64, r64: shifts to the right by the last register's low bits.</summary>
    public void ShiftRight(int to, int from, int count)
    {
        Byte(0xC4);
        Byte(((to >> 3) == 0 ? 0x80 : 0) | 0x40 | ((from >> 3) == 0 ? 0x20 : 0) | 2);
        Byte(0x80 | ((~count & 15) << 3) | 3);
        Byte(0xF7);
        Byte(0xC0 | ((to & 7) << 3) | (from & 7));
    }

    /// <summary>SHRX r64, [RSP+offset], r64.</summary>
    public void ShiftRightState(int to, int offset, int count)
    {
        Byte(0xC4);
        Byte(((to >> 3) == 0 ? 0x80 : 0) | 0x62);
        Byte(0x80 | ((~count & 15) << 3) | 3);
        Byte(0xF7);
        Operand(to, HostRegister.State, offset);
    }

    /// <summary>JRCXZ over the bytes that follow until <see cref="EndShort"/>.</summary>
    public long BeginJumpIfZero()
    {
        Byte(0xE3);
        Byte(0);
        return Here;
    }

    /// <summary>
    /// A jump that is taken unless RCX is 1, to a place that is not known yet; gives where its distance stands. The flags are left
    /// alone.
    /// </summary>
    /// <remarks>
    /// On AMD processors LOOP is as fast as other branches, and one that is never taken costs their predictor nothing. It reaches no
    /// farther than 127 bytes: to a JMP rel32 that stands, as operand, inside the NOP behind it. Intel's LOOP is slow: there a JRCXZ is
    /// taken instead.
    /// </remarks>
    public long JumpUnlessOneLater()
    {
        if (HasFastLoop)
        {
            Bytes([0xE2, 0x03, 0x0F, 0x1F, 0x84, 0xE9]);
            Int32(0);
            return Here - 4;
        }

        Lea(HostRegister.Test, HostRegister.Test, -1);
        long one = BeginJumpIfZero();
        long site = JumpLater();
        EndShort(one);
        return site;
    }

    /// <summary>Jcc over the bytes that follow until <see cref="EndShort"/>.</summary>
    public long BeginJumpIf(int condition)
    {
        Byte(0x70 | condition);
        Byte(0);
        return Here;
    }

    /// <summary>Ends what a short jump skips.</summary>
    public void EndShort(long begin)
    {
        long distance = Here - begin;
        if (distance > sbyte.MaxValue)
        {
            throw new InvalidOperationException("A short jump does not reach.");
        }

        _at[-distance - 1] = (byte)distance;
    }

    /// <summary>JMP rel8 where that reaches, else JMP rel32.</summary>
    public void Jump(long target)
    {
        long distance = target - (Here + 2);
        if (distance == (sbyte)distance)
        {
            Byte(0xEB);
            Byte((int)distance);
            return;
        }

        Byte(0xE9);
        Relative(target);
    }

    /// <summary>JMP rel32 to a place that is not known yet; gives where its distance stands.</summary>
    public long JumpLater()
    {
        Byte(0xE9);
        Int32(0);
        return Here - 4;
    }

    /// <summary>Jcc rel32 to a place that is not known yet; gives where its distance stands.</summary>
    public long JumpIfLater(int condition)
    {
        Byte(0x0F);
        Byte(0x80 | condition);
        Int32(0);
        return Here - 4;
    }

    /// <summary>CALL rel32.</summary>
    public void Call(long target)
    {
        Byte(0xE8);
        Relative(target);
    }

    /// <summary>Sets the distance of an earlier rel32 so that it leads to <paramref name="target"/>.</summary>
    public void Patch(long site, long target) => *(int*)(site - _toExecute) = (int)(target - (site + 4));

    /// <summary>Writes CALL rel32 over earlier code.</summary>
    public void WriteCall(long place, long target)
    {
        *(byte*)(place - _toExecute) = 0xE8;
        Patch(place + 1, target);
    }

    /// <summary>Makes an earlier jump lead here.</summary>
    public void PatchHere(long site) => Patch(site, Here);

    /// <summary>A REX prefix for register field, index and base; left out where it would say nothing.</summary>
    public void Rex(bool is64, int reg, int index, int rm)
    {
        int rex = 0x40 | (is64 ? 8 : 0) | ((reg >> 3) << 2) | ((index >> 3) << 1) | (rm >> 3);
        if (rex != 0x40)
        {
            Byte(rex);
        }
    }

    /// <summary>ModRM and what follows it, for [base+displacement].</summary>
    /// <remarks>From the host's RSP on, displacements are offsets in the state.</remarks>
    public void Operand(int reg, int baseRegister, int displacement)
    {
        displacement -= baseRegister == HostRegister.State ? StateLayout.Bias : 0;
        int mod = Mod(baseRegister, displacement);
        Byte((mod << 6) | ((reg & 7) << 3) | (baseRegister & 7));
        if ((baseRegister & 7) == 4)
        {
            Byte(0x24);
        }

        Displacement(mod, displacement);
    }

    /// <summary>ModRM and what follows it, for [base+index*2^scale+displacement].</summary>
    public void Operand(int reg, int baseRegister, int index, int scale, int displacement)
    {
        displacement -= baseRegister == HostRegister.State ? StateLayout.Bias : 0;
        int mod = Mod(baseRegister, displacement);
        Byte((mod << 6) | ((reg & 7) << 3) | 4);
        Byte((scale << 6) | ((index & 7) << 3) | (baseRegister & 7));
        Displacement(mod, displacement);
    }

    /// <summary>An operation of one opcode byte on a register and [RSP+offset].</summary>
    public void StateOperation(bool is64, int opcode, int reg, int offset)
    {
        Rex(is64, reg, 0, HostRegister.State);
        Byte(opcode);
        Operand(reg, HostRegister.State, offset);
    }

    private static bool IsAmd()
    {
        // The vendor's name in EBX, EDX, ECX: "Auth" or "Hygo" first.
        int first = X86Base.CpuId(0, 0).Ebx;
        return first is 0x68747541 or 0x6F677948;
    }

    private static int Mod(int baseRegister, int displacement) =>
        displacement == 0 && (baseRegister & 7) != 5 ? 0 : displacement == (sbyte)displacement ? 1 : 2;

    private void Displacement(int mod, int displacement)
    {
        if (mod == 1)
        {
            Byte(displacement);
        }
        else if (mod == 2)
        {
            Int32(displacement);
        }
    }

    private void TableOperand(int reg, int index, int offset)
    {
        Byte(0x80 | ((reg & 7) << 3) | 4);
        Byte((3 << 6) | ((index & 7) << 3) | HostRegister.State);
        Int32(offset - StateLayout.Bias);
    }

    private void Relative(long target) => Int32((int)(target - (Here + 4)));
}
