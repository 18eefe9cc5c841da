using System.Globalization;
using System.Text;
using Iced.Intel;
using Tutti.Cpu.Interpreter.Tests.Oracle;
using Tutti.X86;
using static Iced.Intel.AssemblerRegisters;
using static Tutti.Cpu.Translator.Tests.Kernel.KernelLayout;
using Decoder = Iced.Intel.Decoder;

namespace Tutti.Cpu.Translator.Tests.Kernel;

/// <summary>
/// Turns a <see cref="KernelProgram"/> into code in an image. Steps follow one another in the kernel; each of their fragments, in kernel or user
/// mode, ends at the step's end or with a fault that leads there.
/// </summary>
internal sealed partial class KernelProgramBuilder(KernelImage image, KernelProgram program)
{
    /// <summary>Room for the longest step.</summary>
    private const ulong Reserve = 0xA00;

    private readonly StringBuilder _text = new();
    private Assembler _code = new(64);
    private SeededRandom _random = new(1);
    private ulong _kernelNext = KernelCode;
    private ulong _userNext = UserCode;
    private bool _isUser;
    private bool _labelWaits;

    /// <summary>Writes the program into the image and gives its disassembly.</summary>
    public string Build()
    {
        foreach (KernelStep step in program.Steps)
        {
            if (_kernelNext + Reserve > KernelCode + CodeBytes || _userNext + Reserve > UserCode + CodeBytes)
            {
                break;
            }

            _random = new SeededRandom(step.Seed);
            _code = new Assembler(64);
            _text.AppendLine(CultureInfo.InvariantCulture, $"step {step.Seed:x}");
            AddStep(step);
            _kernelNext = Finish(_kernelNext, KernelCode, KernelCodeFrames, KernelLengths);
        }

        _code = new Assembler(64);
        Label end = _code.CreateLabel();
        _code.cli();
        _code.Label(ref end);
        _code.@out(ExitPort, al);
        _code.jmp(end);
        Finish(_kernelNext, KernelCode, KernelCodeFrames, KernelLengths);
        return _text.ToString();
    }

    private ulong Finish(ulong address, ulong start, ulong frames, ulong lengths)
    {
        var stream = new MemoryStream();
        _code.Assemble(new StreamCodeWriter(stream), address);
        byte[] bytes = stream.ToArray();
        int offset = (int)(address - start);
        bytes.CopyTo(image.Ram, (int)frames + offset);
        var decoder = Decoder.Create(64, bytes);
        decoder.IP = address;
        while (decoder.IP < address + (ulong)bytes.Length)
        {
            ulong at = decoder.IP;
            decoder.Decode(out Instruction instruction);
            image.Ram[(int)lengths + (int)(at - start)] = (byte)instruction.Length;
            _text.AppendLine(CultureInfo.InvariantCulture, $"    {at:x} {Convert.ToHexString(bytes.AsSpan((int)(at - address), instruction.Length)),-24} {instruction}");
        }

        return address + (ulong)bytes.Length;
    }

    private void AddStep(KernelStep step)
    {
        switch (_random.Below(20))
        {
            case < 8:
                AddKernelFragment(step);
                break;
            case < 13:
                AddUserFragment(step);
                break;
            case < 16:
                AddPaging();
                break;
            case 16:
                SwitchSpace();
                break;
            case 17:
                AddBreakpoints();
                AddFragment(step);
                _code.xor(eax, eax);
                _code.mov(dr7, rax);
                break;
            case 18:
                AddAlias();
                break;
            default:
                AddModelRegister();
                break;
        }
    }

    private void AddFragment(KernelStep step)
    {
        if (_random.Percent(50))
        {
            AddKernelFragment(step);
        }
        else
        {
            AddUserFragment(step);
        }
    }

    private void SetContinue(Label next)
    {
        _code.lea(rax, __[next]);
        _code.mov(__qword_ptr[unchecked((long)Continue)], rax);
        _code.mov(__qword_ptr[unchecked((long)StepsLeft)], _random.Below(20));
    }

    private void Place(ref Label label)
    {
        if (_labelWaits)
        {
            _code.nop();
        }

        _code.Label(ref label);
        _labelWaits = true;
    }

    private void AddKernelFragment(KernelStep step)
    {
        Label next = _code.CreateLabel();
        SetContinue(next);
        _code.mov(rsp, unchecked((long)KernelRsp) - (8 * _random.Below(16)));
        _isUser = false;
        AddBody(step.Seed, step.Removed);
        Place(ref next);
        _code.cld();
        _labelWaits = false;
        if (image.HasInterrupts && _random.Percent(10))
        {
            _code.sti();
            _code.hlt();
        }
    }

    /// <summary>Goes to user mode with SYSRET or IRETQ; the way back is a SYSCALL, an INT or a fault.</summary>
    private void AddUserFragment(KernelStep step)
    {
        Assembler kernel = _code;
        Label next = kernel.CreateLabel();
        ulong target = _userNext;
        SeededRandom random = _random;
        _code = new Assembler(64);
        _isUser = true;
        AddBody(step.Seed, step.Removed);
        _code.nop();
        _labelWaits = false;
        if (random.Percent(70))
        {
            _code.syscall();
        }

        _code.@int(LeaveVector);
        _userNext = Finish(_userNext, UserCode, UserCodeFrames, UserLengths);
        _random = random;
        _code = kernel;
        SetContinue(next);
        ulong flags = RandomFlags();
        ulong stack = UserStack + PageSize - (8 * (ulong)random.Below(16));
        if (random.Percent(60))
        {
            _code.mov(rcx, target);
            _code.mov(r11, flags);
            _code.mov(rsp, stack);
            _code.sysretq();
            _code.push(0);
        }

        // Where SYSRET faults too.
        _code.mov(rsp, unchecked((long)KernelRsp));
        _code.push(UserData);
        _code.push((int)stack);
        _code.push((int)(flags & ~Rflags.Resume));
        _code.push(UserCode64);
        _code.push((int)target);
        _code.iretq();
        Place(ref next);
        _code.nop();
        _labelWaits = false;
    }

    /// <summary>RFLAGS as POPF, IRETQ and SYSRET may bring them.</summary>
    private ulong RandomFlags() =>
        (_random.Next() & Rflags.Arithmetic) | Rflags.AlwaysOne
        | (_random.Percent(75) ? Rflags.Interrupt : 0)
        | (_random.Percent(12) ? Rflags.Trap : 0)
        | (_random.Percent(25) ? Rflags.AlignmentCheck : 0)
        | (_random.Percent(10) ? Rflags.Direction : 0)
        | (_random.Percent(3) ? Rflags.NestedTask : 0)
        | (_random.Percent(5) ? Rflags.Iopl : 0)
        | (_random.Percent(10) ? Rflags.Identification : 0)
        | (_random.Percent(5) ? Rflags.Resume : 0);
}
