using Iced.Intel;
using Tutti.Cpu.Interpreter.Tests.Oracle;
using Tutti.X86;
using static Iced.Intel.AssemblerRegisters;
using static Tutti.Cpu.Translator.Tests.Kernel.KernelLayout;

namespace Tutti.Cpu.Translator.Tests.Kernel;

/// <summary>The random instructions of a fragment.</summary>
internal sealed partial class KernelProgramBuilder
{
    private static readonly AssemblerRegister64[] Kept = [rbp, r8, r9, r10, r12, r13, r14, r15, rbx];

    private readonly List<(Label Label, int Left)> _branches = [];
    private readonly List<AssemblerRegister64> _pointers = [];
    private AssemblerRegister64 _counter;

    private void AddBody(ulong seed, ulong removed)
    {
        SeededRandom random = _random;
        _branches.Clear();
        _pointers.Clear();
        int first = _random.Below(Kept.Length);
        _counter = Kept[(first + 5) % 8];
        for (int i = 0; i < 1 + _random.Below(3); i++)
        {
            AssemblerRegister64 pointer = Kept[(first + i) % Kept.Length];
            if (pointer != _counter)
            {
                _pointers.Add(pointer);
                _code.mov(pointer, PickAddress());
            }
        }

        bool loops = _random.Percent(35);
        Label start = _code.CreateLabel();
        _code.mov(_counter, 2UL + (ulong)_random.Below(4));
        if (loops)
        {
            Place(ref start);
        }

        int count = 1 + _random.Below(_random.Percent(25) ? KernelProgram.MaxInstructions : 16);
        for (int i = 0; i < count; i++)
        {
            _random = new SeededRandom(seed ^ ((ulong)(i + 1) * 0x9E37_79B9_7F4A_7C15));
            if ((removed >> i & 1) == 0)
            {
                AddRandom();
            }

            PlaceBranches(end: false);
        }

        PlaceBranches(end: true);
        _random = random;
        if (loops)
        {
            _code.dec(_counter);
            _labelWaits = false;
            _code.jnz(start);
        }
    }

    private void PlaceBranches(bool end)
    {
        for (int i = _branches.Count - 1; i >= 0; i--)
        {
            (Label label, int left) = _branches[i];
            if (left == 0 || end)
            {
                _branches.RemoveAt(i);
                Place(ref label);
            }
            else
            {
                _branches[i] = (label, left - 1);
            }
        }
    }

    private void AddRandom()
    {
        switch (_random.Below(100))
        {
            case < 50:
                AddForm(GeneralForms);
                break;
            case < 56:
                AddForm(StackForms);
                break;
            case < 60:
                AddString();
                break;
            case < 66:
                AddForm(VectorForms);
                break;
            case < 69:
                AddForm(X87Forms);
                break;
            case < 75:
                AddBranch();
                break;
            case < 80:
                AddCalls();
                break;
            case < 82:
                AddPatch();
                break;
            case 82:
                AddPatchedCalls();
                break;
            case 83:
                AddRewrite();
                break;
            case < 96:
                AddSystem();
                break;
            default:
                AddFault();
                break;
        }

        _labelWaits = false;
    }

    /// <summary>A linear address of data. Code is not among them: what random stores make of it leaves flags undefined.</summary>
    private ulong PickAddress()
    {
        int offset = _random.Below(10) switch
        {
            < 5 => _random.Below(512) * 8,
            < 8 => PageSize - 1 - _random.Below(48),
            _ => _random.Below(PageSize),
        };
        int kind = _random.Below(100);
        ulong page = kind switch
        {
            < 28 => KernelArena + ((ulong)_random.Below(ArenaPages) * PageSize),
            < 64 => UserArena + ((ulong)_random.Below(ArenaPages) * PageSize),
            < 77 => (_random.Percent(50) ? UserLarge : KernelLarge) + ((ulong)_random.Below(DataFrames) * PageSize),
            < 81 => (_random.Percent(50) ? UserLarge : KernelLarge) + RamSize - Frames + ((ulong)_random.Below(16) * PageSize),
            < 89 => UserStack,
            < 95 => KernelRsp - PageSize,
            < 98 => 0x7FFF_FFFF_F000,
            _ => 0x8000_0000_0000 - (ulong)_random.Below(2),
        };
        return page + (ulong)offset;
    }

    private void AddBranch()
    {
        Label over = _code.CreateLabel();
        int condition = _random.Below(16);
        if (_random.Percent(15))
        {
            _code.jmp(over);
        }
        else
        {
            Code code = ShortJumps[condition];
            _code.AddInstruction(Instruction.CreateBranch(code, over.Id));
        }

        _branches.Add((over, _random.Below(3)));
    }

    private ulong PickFunction()
    {
        bool user = _isUser ? _random.Percent(95) : _random.Percent(15);
        return (user ? UserFunctions : KernelFunctions) + ((ulong)_random.Below(FunctionPages) * PageSize)
            + (ulong)FunctionPage.EntryOf(_random.Percent(10) ? -1 : _random.Below(_random.Percent(70) ? 6 : FunctionPage.Count));
    }

    private void AddCalls()
    {
        ulong target = PickFunction();
        switch (_random.Below(3))
        {
            case 0:
                _code.mov(rax, target);
                _code.call(rax);
                break;
            case 1 when target < Base == _isUser:
                _code.call(target);
                break;
            default:
                Label again = _code.CreateLabel();
                _code.mov(edi, 1 + _random.Below(4));
                Place(ref again);
                _code.mov(rax, target);
                _code.call(rax);
                _code.dec(edi);
                _code.jnz(again);
                break;
        }
    }

    /// <summary>Changes the constant of an instruction that follows, or of a function, by one way or another.</summary>
    private void AddPatch()
    {
        Label slot = _code.CreateLabel();
        bool isOwn = _random.Percent(60);
        if (isOwn)
        {
            ulong frames = _isUser ? UserCodeFrames : KernelCodeFrames;
            ulong code = _isUser ? UserCode : KernelCode;
            _code.lea(rax, __[slot]);
            long distance = _random.Below(4) switch
            {
                0 => (long)((_isUser ? UserLarge : KernelLarge) + frames - Frames - code),
                1 when !_isUser => (long)(KernelCodeAlias - KernelCode),
                _ => 0,
            };
            _code.lea(rax, __[rax + distance]);
        }
        else
        {
            ulong function = (ulong)_random.Below(FunctionFrameCount * PageSize) & ~0xFFFUL;
            _code.mov(rax, (_isUser ? UserLarge : KernelLarge) + FunctionFrames - Frames + function + (ulong)FunctionPage.EntryOf(_random.Below(6)));
        }

        AddPatchWrite();
        for (int between = _random.Below(3); between > 0 && isOwn; between--)
        {
            _code.nop();
        }

        Place(ref slot);
        _code.mov(ecx, _random.Below(256));
    }

    /// <summary>Changes a function where it is called, and calls it, again and again.</summary>
    private void AddPatchedCalls()
    {
        ulong function = PickFunction();
        Label again = _code.CreateLabel();
        _code.mov(esi, 2);
        Place(ref again);
        for (int i = 0; i < 2; i++)
        {
            _code.mov(rax, function);
            AddPatchWrite();
            _code.mov(rax, function);
            _code.call(rax);
            _code.add(rdx, rax);
        }

        _code.dec(esi);
        _code.jnz(again);
    }

    /// <summary>Reads code and writes it as it was.</summary>
    private void AddRewrite()
    {
        ulong code = _random.Below(4) switch
        {
            0 => PickFunction(),
            1 => (_random.Percent(50) ? UserLarge : KernelLarge) + FunctionFrames - Frames + (ulong)_random.Below((FunctionFrameCount * PageSize) - 8),
            2 => UserCode + (ulong)_random.Below(CodeBytes - 8),
            _ => KernelCode + (ulong)_random.Below(CodeBytes - 8),
        };
        _code.mov(rdi, code);
        switch (_random.Below(4))
        {
            case 0:
                _code.mov(eax, __dword_ptr[rdi]);
                _code.mov(__dword_ptr[rdi], eax);
                break;
            case 1:
                _code.@lock.or(__qword_ptr[rdi], 0);
                break;
            case 2:
                _code.mov(rsi, rdi);
                _code.mov(ecx, _random.Below(64));
                _code.rep.movsb();
                break;
            default:
                _code.movups(xmm2, __xmmword_ptr[rdi - 8]);
                _code.movups(__xmmword_ptr[rdi - 8], xmm2);
                break;
        }
    }

    private void AddPatchWrite()
    {
        int value = _random.Below(256);
        switch (_random.Below(7))
        {
            case 0:
                _code.mov(__dword_ptr[rax + 1], value);
                break;
            case 1:
                _code.mov(__byte_ptr[rax + 1 + _random.Below(4)], value);
                break;
            case 2:
                _code.mov(edx, value);
                _code.xchg(__dword_ptr[rax + 1], edx);
                break;
            case 3:
                _code.add(__dword_ptr[rax + 1], 1);
                break;
            case 4:
                _code.mov(edx, value);
                _code.movnti(__dword_ptr[rax + 1], edx);
                break;
            case 5:
                _code.cld();
                _code.lea(rdi, __[rax + 1]);
                _code.mov(eax, value);
                _code.mov(ecx, 4);
                _code.rep.stosb();
                break;
            default:
                _code.movd(__dword_ptr[rax + 1], xmm1);
                break;
        }
    }

    private void AddString()
    {
        _code.mov(rsi, PickAddress());
        _code.mov(rdi, PickAddress());
        _code.mov(ecx, _random.Below(_random.Percent(20) ? 0x600 : 40));
        bool isDown = _random.Percent(15);
        if (isDown)
        {
            _code.std();
        }

        Code code = _random.Pick(StringForms);
        Instruction instruction = Strings(code);
        instruction.HasRepPrefix = _random.Percent(80);
        _code.AddInstruction(instruction);
        if (isDown && _random.Percent(90))
        {
            _code.cld();
        }
    }
}
